// SPDX-License-Identifier: Apache-2.0
#include "training/data/tensorboard_listener.h"

#include <map>
#include <memory>
#include <variant>

#include "nas/core/run_folder.h"
#include "training/data/tensorboard.h"

namespace nas {
namespace {

class TensorboardListener : public SearchListener {
 public:
  TensorboardListener(const SearchSpace& space, const std::filesystem::path& run_folder)
      : space_(space), folder_(run_folder) {}
  std::string name() const override { return "TensorBoard"; }

  void trial_ended(const Trial& trial) override {
    if (is_open(trial.status) || trial.genotype.values.size() != space_.genes().size()) return;
    EventWriter writer(folder_.trial(trial.id));
    std::map<std::string, std::variant<double, std::string>> settings{{"stage", trial.stage}};
    std::string table = "| gene | value |\n|---|---|\n";
    for (std::size_t g = 0; g < space_.genes().size(); ++g) {
      const Gene& gene = space_.genes()[g];
      if (!space_.active(trial.genotype, g)) continue;
      const int value = trial.genotype.values[g];
      table += "| " + gene.name + " | " + gene.text(value) + " |\n";
      if (gene.ordered()) {
        settings[gene.name] = gene.value(value);
      } else {
        settings[gene.name] = gene.text(value);
      }
    }
    writer.settings(settings);
    writer.text("trial " + std::to_string(trial.id), table);
    const bool done = trial.status == TrialStatus::Done;
    if (done) {
      writer.scalar("trial/score", trial.evaluation.score, trial.evaluation.steps);
      for (const auto& [metric, value] : trial.evaluation.metrics) {
        writer.scalar("trial/" + metric, value, trial.evaluation.steps);
      }
    }
    writer.ended(done);
    writer.flush();
  }

 private:
  const SearchSpace& space_;
  const RunFolder folder_;
};

}  // namespace

std::unique_ptr<SearchListener> make_tensorboard_listener(const SearchSpace& space,
                                                          const std::filesystem::path& run_folder) {
  return std::make_unique<TensorboardListener>(space, run_folder);
}

}  // namespace nas
