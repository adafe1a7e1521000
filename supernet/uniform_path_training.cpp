// SPDX-License-Identifier: Apache-2.0
#include "supernet/uniform_path_training.h"

namespace nas {

void train_uniform_paths(GraphModule& network,
                         const std::vector<Decision>& decisions,
                         const CaseCache& data,
                         const std::vector<std::string>& train_ids,
                         const TrainOptions& options,
                         const FitFiles& files,
                         const FitHooks& hooks,
                         const std::function<bool(const std::vector<int>&)>& accept,
                         SuperReport& report) {
  const PathSampler sampler(network->graph(), decisions);
  FitHooks own = hooks;
  own.before_step = [&](std::int64_t step, double learning_rate) {
    if (hooks.before_step) hooks.before_step(step, learning_rate);
    network->select_path(sampler.draw(options.seed, step, accept));
  };
  report.fit = fit(network, data, train_ids, options, files, own);
  for (const Decision& decision : decisions) {
    const auto n = static_cast<std::size_t>(decision.options());
    report.probabilities.emplace_back(n, 1 / static_cast<double>(n));
    report.choices += static_cast<int>(decision.choices.size());
  }
}

}  // namespace nas
