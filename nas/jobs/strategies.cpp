// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/strategies.h"

#include <array>
#include <utility>

#include "compound_scaling/scaling.h"
#include "evolution/clustered.h"
#include "evolution/regularized.h"
#include "nas/core/error.h"
#include "nas/search/random_search.h"
#include "supernet/search/supernet_search.h"

namespace nas {
namespace {

struct Entry {
  const char* name;
  std::unique_ptr<Strategy> (*make)(const StrategyContext&);
};

constexpr std::array kStrategies{
    Entry{"random", make_random_search},
    Entry{"regularized", make_regularized_evolution},
    Entry{"clustered", make_clustered_evolution},
    Entry{"single_path", make_supernet_search},
    Entry{"differentiable", make_supernet_search},
    Entry{"scaling", make_compound_scaling},
};

}  // namespace

std::unique_ptr<Strategy> make_strategy(const StrategyContext& context) {
  for (const Entry& entry : kStrategies) {
    if (context.stage.kind == entry.name) return entry.make(context);
  }
  fail(ErrorKind::Usage, "there is no strategy \"", context.stage.kind, "\"");
}

std::vector<std::string> strategy_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kStrategies) names.emplace_back(entry.name);
  return names;
}

}  // namespace nas
