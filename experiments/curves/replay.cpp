// SPDX-License-Identifier: Apache-2.0
#include "experiments/curves/replay.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/search/statistics.h"
#include "nas/search/strategy.h"

namespace nas {
namespace {

constexpr double kSmallestSteps = kSmallestTraining;
constexpr double kAshaGrowth = 3, kAshaKeep = 1.0 / 3;
constexpr double kAshaFirst = 0.05;  // of the search's effort: a training's first rung

/// The networks of a table that a seed offers, as a space of one gene.
class TableSpace : public SearchSpace {
 public:
  TableSpace(const CurveTable& table, Rng rng) {
    std::vector<std::size_t> others;
    for (std::size_t i = 0; i < table.networks.size(); ++i) {
      if (i != table.plan) others.push_back(i);
    }
    rng.shuffle(others);
    others.resize(
        static_cast<std::size_t>(std::ceil(kOffered * static_cast<double>(others.size()))));
    offered_ = std::move(others);
    offered_.insert(offered_.begin(), table.plan);
    Gene gene{"network_number", "topology", {}};
    for (const std::size_t i : offered_) gene.values.push_back(std::to_string(i));
    genes_.push_back(std::move(gene));
  }
  std::string name() const override { return "recorded"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& g) const override { return malformed_reason(g); }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override { return {{0}}; }
  Json describe() const override { return {{"space", name()}}; }
  std::size_t network(const Genotype& g) const {
    return offered_.at(static_cast<std::size_t>(g.values.at(0)));
  }
  std::size_t count_offered() const { return offered_.size(); }

 private:
  std::vector<std::size_t> offered_;
  std::vector<Gene> genes_;
};

/// What an evaluator would say, from the table.
class Recorded {
 public:
  Recorded(const CurveTable& table, Rng rng) : table_(table) {
    const auto cases = static_cast<std::int64_t>(table.inner_cases.size());
    for (std::int64_t i = 0; i < cases; ++i) {
      drawn_.push_back(static_cast<std::size_t>(rng.integer(0, cases)));
    }
  }
  std::vector<double> cases(std::size_t network, double effort) const {
    const std::vector<double> all = inner_scores(table_.networks[network], effort);
    std::vector<double> seen;
    for (const std::size_t i : drawn_) seen.push_back(all[i]);
    return seen;
  }
  /// \param finished with a schedule of its own that ended, not with averaged weights on the way.
  double score(std::size_t network, double effort, bool finished) const {
    const double mean = mean_score(cases(network, effort));
    const double score = finished ? mean + inner_finish(table_.networks[network], effort) : mean;
    return std::isfinite(score) ? score : 0;
  }

 private:
  const CurveTable& table_;
  std::vector<std::size_t> drawn_;
};

struct Found {
  std::size_t network = 0;
  double spent = 0;   // effort of the search
  double before = 0;  // of that, of the network's own training, where it is continued
  std::int64_t trials = 0;
};

StrategyContext context_for(const TableSpace& space,
                            const CurveTable& table,
                            const Policy& policy,
                            double effort,
                            std::uint64_t seed) {
  StrategyContext context;
  context.space = &space;
  context.stage = make_stage(*policy.kind, "search", policy.share);
  for (const auto& [name, value] : policy.options.items()) context.stage.set(name, value);
  context.start = context.baseline = space.baseline();
  context.rng = Rng(seed).split("stage");
  const double stage = effort * policy.share;
  // A second is a step of the plan: the rules with a clock are those that people use.
  BudgetQuestion question{.stage = context.stage, .means = {}, .has_clock = true};
  question.means.seconds = question.means.ends_at = question.means.effort = stage;
  // The race's own part of the winner's training is not known before; the largest part is.
  question.means.horizon = effort - stage;
  question.finals = 2;
  question.final_steps = effort - stage;
  question.smallest_seconds = kSmallestSteps;
  question.budget.seconds = effort;
  question.baseline = {.step_seconds = 1, .evaluation_seconds = 0, .probe_seconds = 0};
  question.part = policy.share;
  context.budget = policy.kind->budget(question);
  context.budget.trials =
      std::min(context.budget.trials, static_cast<std::int64_t>(space.count_offered()));
  context.cost = [&](const Genotype& g) {
    const RecordedNetwork& n = table.networks[space.network(g)];
    TrialCost cost;
    cost.parameters = n.parameters;
    cost.macs = n.macs;
    cost.relative_cost = n.relative_cost;
    return cost;
  };
  if (context.budget.cost_limit > 0) {
    const double most =
        context.budget.cost_limit * static_cast<double>(table.networks[table.plan].macs);
    context.admissible = [&, most](const Genotype& g) {
      const std::size_t network = space.network(g);
      return network == table.plan || static_cast<double>(table.networks[network].macs) <= most;
    };
  }
  return context;
}

Found drive(const TableSpace& space,
            const Recorded& recorded,
            const StrategyContext& context,
            double stage) {
  const auto strategy = make_strategy(context);
  std::vector<double> efforts;  // of each proposal's training in all
  std::vector<Genotype> genotypes;
  Found found;
  while (!strategy->finished()) {
    const std::vector<Proposal> proposals = strategy->ask(1000);
    NAS_CHECK_KIND(Internal, !proposals.empty(), "replay: the strategy waits for nothing");
    std::vector<Outcome> outcomes;
    for (const Proposal& p : proposals) {
      const double before = p.continues >= 0 ? efforts[static_cast<std::size_t>(p.continues)] : 0;
      const double effort = before + p.share * stage;
      efforts.push_back(effort);
      genotypes.push_back(p.genotype);
      found.spent += p.share * stage;
      const std::size_t network = space.network(p.genotype);
      Outcome o;
      o.number = p.number;
      o.status = TrialStatus::Done;
      o.effort = effort;
      o.steps = std::llround(effort);
      const bool finished = !context.stage.kind->may_end_early;
      o.score = recorded.score(network, effort, finished);
      o.cases = recorded.cases(network, effort);
      outcomes.push_back(std::move(o));
    }
    strategy->tell(outcomes);
  }
  const Winner winner = strategy->winner();
  const Genotype chosen = winner.found ? winner.genotype : space.baseline();
  found.network = space.network(chosen);
  found.trials = std::ssize(efforts);
  for (std::size_t i = 0; i < efforts.size(); ++i) {
    if (genotypes[i] == chosen) found.before = std::max(found.before, efforts[i]);
  }
  return found;
}

/// Asynchronous successive halving with one worker, trainings continued. Source: Li et al., "A
/// System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934, algorithm 2.
Found asha(const TableSpace& space, const Recorded& recorded, double stage) {
  struct Entry {
    std::size_t network = 0;
    double score = 0;
    bool promoted = false;
  };
  std::vector<double> levels;
  for (double level = kAshaFirst * stage; level <= stage; level *= kAshaGrowth) {
    levels.push_back(level);
  }
  std::vector<std::vector<Entry>> rungs(levels.size());
  Found found;
  std::size_t next = 0;
  while (true) {
    std::size_t to = 0;  // rung of the next training
    std::size_t network = 0;
    bool any = false;
    for (std::size_t r = levels.size() - 1; r-- > 0 && !any;) {
      std::vector<Entry*> order;
      for (Entry& e : rungs[r]) order.push_back(&e);
      std::ranges::stable_sort(order,
                               [](const Entry* a, const Entry* b) { return a->score > b->score; });
      order.resize(static_cast<std::size_t>(kAshaKeep * static_cast<double>(order.size())));
      for (Entry* e : order) {
        if (e->promoted) continue;
        const double cost = levels[r + 1] - levels[r];
        if (found.spent + cost > stage * (1 + 1e-9)) continue;
        e->promoted = any = true;
        to = r + 1;
        network = e->network;
        break;
      }
    }
    if (!any) {
      if (next == space.count_offered()) break;
      network = space.network({{static_cast<int>(next++)}});
    }
    const double cost = levels[to] - (to > 0 ? levels[to - 1] : 0);
    if (found.spent + cost > stage * (1 + 1e-9)) break;
    found.spent += cost;
    ++found.trials;
    rungs[to].push_back({network, recorded.score(network, levels[to], false)});
  }
  for (std::size_t r = 0; r < rungs.size(); ++r) {
    double best = -INFINITY;
    for (const Entry& e : rungs[r]) {
      if (e.score <= best) continue;
      best = e.score;
      found.network = e.network;
      found.before = levels[r];
    }
  }
  return found;
}

double best_delivered(const CurveTable& table, double effort) {
  double best = -INFINITY;
  for (const RecordedNetwork& n : table.networks) {
    best = std::max(best, delivered_score(n, effort));
  }
  return best;
}

}  // namespace

std::vector<Policy> replay_policies(const StrategyKinds& kinds) {
  const double share = 0.3;  // of the built-in recipe "random"
  return {{.name = "plan"},
          {.name = "random",
           .kind = find_kind(kinds, "random"),
           .options = {{"rungs", 1}},
           .share = share},
          {.name = "halving", .kind = find_kind(kinds, "random"), .share = share},
          {.name = "asha", .share = share, .continues = true},
          {.name = "regularized", .kind = find_kind(kinds, "regularized"), .share = share},
          {.name = "race", .kind = find_kind(kinds, "race"), .share = 0.3, .continues = true}};
}

const Policy& policy_named(const std::vector<Policy>& policies, const std::string& name) {
  std::vector<std::string> names;
  for (const Policy& policy : policies) {
    if (policy.name == name) return policy;
    names.push_back(policy.name);
  }
  const std::string nearest = nearest_word(name, names);
  std::string list;
  for (const std::string& known : names) list += (list.empty() ? "" : ", ") + known;
  fail(ErrorKind::Usage,
       "policy \"",
       name.substr(0, 64),
       "\": expected one of ",
       list,
       nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?");
}

Replayed replay(const CurveTable& table, const Policy& policy, double effort, std::uint64_t seed) {
  const TableSpace space(table, Rng(seed).split("offered"));
  const Recorded recorded(table, Rng(seed).split("cases"));
  const double stage = effort * policy.share;
  Found found{.network = table.plan};
  if (policy.kind != nullptr) {
    found = drive(space, recorded, context_for(space, table, policy, effort, seed), stage);
  } else if (policy.share > 0) {
    found = asha(space, recorded, stage);
  }
  Replayed result;
  result.network = found.network;
  result.search_effort = found.spent;
  result.trials = found.trials;
  result.final_effort = effort - found.spent + (policy.continues ? found.before : 0);
  result.delivered = delivered_score(table.networks[found.network], result.final_effort);
  result.regret = best_delivered(table, effort) - result.delivered;
  return result;
}

std::vector<ReplaySummary> replay_all(const CurveTable& table,
                                      const std::vector<Policy>& policies,
                                      const std::vector<double>& efforts,
                                      std::int64_t seeds) {
  std::vector<ReplaySummary> summaries;
  for (const double effort : efforts) {
    for (const Policy& policy : policies) {
      ReplaySummary s{.policy = policy.name, .effort = effort};
      std::vector<double> regrets, delivered, shares, costs, trials;
      try {
        for (std::int64_t seed = 0; seed < seeds; ++seed) {
          const Replayed r = replay(table, policy, effort, static_cast<std::uint64_t>(seed));
          regrets.push_back(r.regret);
          delivered.push_back(r.delivered);
          shares.push_back(r.search_effort / effort);
          costs.push_back(table.networks[r.network].relative_cost);
          trials.push_back(static_cast<double>(r.trials));
        }
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::Usage) throw;
        summaries.push_back(std::move(s));  // too small for this policy
        continue;
      }
      s.seeds = seeds;
      s.regret = mean(regrets);
      const Interval interval = bootstrap(
          seeds,
          [&](std::span<const std::size_t> items) {
            double sum = 0;
            for (const std::size_t i : items) sum += regrets[i];
            return sum / static_cast<double>(items.size());
          },
          Rng("replay"),
          0.95,
          1000);
      s.low = interval.low;
      s.high = interval.high;
      s.delivered = mean(delivered);
      s.search_share = mean(shares);
      s.relative_cost = mean(costs);
      s.trials = mean(trials);
      summaries.push_back(std::move(s));
    }
  }
  return summaries;
}

}  // namespace nas
