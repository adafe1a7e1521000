// SPDX-License-Identifier: Apache-2.0
#include "supernet/super_training.h"

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "supernet/differentiable.h"
#include "supernet/uniform_path_training.h"

namespace nas {

SuperReport train_super_network(GraphModule& network,
                                const std::vector<Decision>& decisions,
                                const CaseCache& data,
                                const std::vector<std::string>& train_ids,
                                const TrainOptions& options,
                                const SuperOptions& super,
                                const FitFiles& files,
                                const FitHooks& hooks,
                                const std::function<bool(const std::vector<int>&)>& accept) {
  NAS_CHECK_KIND(
      Usage, !decisions.empty(), "super-network '", network->graph().name, "': nothing is open");
  SuperReport report;
  report.history = {{"method", super.method}, {"decisions", Json::array()}};
  for (const Decision& decision : decisions) {
    report.history["decisions"].push_back(
        {{"name", decision.name}, {"options", decision.options()}});
  }
  network->set_merge(merge_from_text(super.merge));
  if (super.method == "single_path") {
    train_uniform_paths(network, decisions, data, train_ids, options, files, hooks, accept, report);
  } else {
    train_differentiable(network, decisions, data, train_ids, options, super, files, hooks, report);
  }
  return report;
}

}  // namespace nas
