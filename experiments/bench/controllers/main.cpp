// SPDX-License-Identifier: Apache-2.0
// controllers_regret KINDS TRIALS SEEDS: minimises the problems of problems.h with each of the
// kinds (a,b,c) and prints one JSON object a line: problem, kind, seed, regret after TRIALS, and
// milliseconds of processor time a trial for asking and telling.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <nlohmann/json.hpp>
#include <sstream>

#include "experiments/bench/controllers/problems.h"
#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/search/strategy.h"

namespace nas {
namespace {

Json run(const Problem& problem, const StrategyKind& kind, std::int64_t trials, int seed) {
  const ProblemSpace space(problem);
  StrategyContext context;
  context.space = &space;
  context.stage = make_stage(kind, "bench", 1);
  context.budget.trials = trials;
  context.rng = Rng("bench").split("seed", seed);
  context.start = context.baseline = space.baseline();
  double regret = INFINITY, seconds = 0;
  // Processor time: one thread, and the machine may have other things to do.
  std::clock_t from = std::clock();
  const auto strategy = make_strategy(context);
  while (!strategy->finished()) {
    const std::vector<Proposal> proposals = strategy->ask(1);
    seconds += static_cast<double>(std::clock() - from) / CLOCKS_PER_SEC;
    std::vector<Outcome> outcomes;
    for (const Proposal& p : proposals) {
      const double value = problem.value(space, p.genotype);
      regret = std::min(regret, value - problem.minimum);
      outcomes.push_back({.number = p.number, .status = TrialStatus::Done, .score = -value});
    }
    from = std::clock();
    strategy->tell(outcomes);
  }
  return {{"problem", problem.name},
          {"kind", kind.name},
          {"seed", seed},
          {"regret", regret},
          {"ms", 1000 * seconds / static_cast<double>(trials)}};
}

int bench(const std::string& kinds, std::int64_t trials, int seeds) {
  std::istringstream names(kinds);
  for (std::string name; std::getline(names, name, ',');) {
    const StrategyKind* kind = find_kind(strategy_kinds(), name);
    NAS_CHECK_KIND(Usage,
                   kind != nullptr,
                   "kind \"",
                   name,
                   "\": expected one of ",
                   joined(kind_names(strategy_kinds())));
    for (const Problem& problem : controller_problems()) {
      for (int seed = 0; seed < seeds; ++seed) {
        std::puts(run(problem, *kind, trials, seed).dump().c_str());
        std::fflush(stdout);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace nas

int main(int argc, char** argv) {
  if (argc != 4 || std::atoi(argv[2]) < 1 || std::atoi(argv[3]) < 1) {
    std::fprintf(stderr, "usage: controllers_regret KIND[,KIND...] TRIALS SEEDS\n");
    return 2;
  }
  try {
    return nas::bench(argv[1], std::atoi(argv[2]), std::atoi(argv[3]));
  } catch (const nas::Error& error) {
    std::fprintf(stderr, "controllers_regret: %s\n", error.what());
    return error.kind() == nas::ErrorKind::Usage ? 2 : 1;
  }
}
