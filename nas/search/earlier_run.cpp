// SPDX-License-Identifier: Apache-2.0
#include "nas/search/earlier_run.h"

#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {

StageOption earlier_option() {
  return {"earlier", Json::array(), [](const JsonReader& value) {
            for (std::size_t i = 0; i < value.size(); ++i) {
              const JsonReader run = value.at(i);
              run.check_keys({"run", "trials"});
              run.at("run").text();
              const JsonReader trials = run.at("trials");
              for (std::size_t k = 0; k < trials.size(); ++k) {
                trials.at(k).check_keys({"genotype", "score"});
                trials.at(k).at("genotype").text();
                trials.at(k).at("score").number();
              }
            }
            return value.json();
          }};
}

std::vector<EarlierRun> earlier_runs(const StageSpec& stage, const SearchSpace& space) {
  std::vector<EarlierRun> runs;
  for (const Json& described : stage.options.at("earlier")) {
    EarlierRun run{described.at("run").get<std::string>(), {}};
    for (const Json& trial : described.at("trials")) {
      const std::string text = trial.at("genotype").get<std::string>();
      const Genotype genotype = space.from_text(text);
      const std::string reason = space.invalid_reason(genotype);
      NAS_CHECK(reason.empty(),
                "stage \"",
                stage.name,
                "\": earlier: run \"",
                run.name,
                "\": ",
                text,
                ": ",
                reason);
      run.results.push_back({genotype, trial.at("score").get<double>()});
    }
    if (!run.results.empty()) runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace nas
