// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/brackets.h"

#include <algorithm>
#include <cmath>

namespace nas {
namespace {

std::int64_t power(std::int64_t base, int exponent) {
  std::int64_t result = 1;
  for (int i = 0; i < exponent; ++i) result *= base;
  return result;
}

Bracket halving(int first, std::int64_t trials, int rungs, std::int64_t eta) {
  Bracket bracket{first, {}};
  for (int rung = first; rung < rungs && trials > 0; ++rung, trials /= eta) {
    bracket.sizes.push_back(trials);
  }
  return bracket;
}

/// Trainings that begin in Hyperband's bracket whose first rung is `first`.
std::int64_t bracket_trials(int first, int rungs, std::int64_t eta) {
  const int s = rungs - 1 - first;
  const std::int64_t all = rungs * power(eta, s);
  return (all + s) / (s + 1);  // rounded up
}

}  // namespace

double BracketPlan::units(int from, int to) const {
  const auto level = [&](int rung) {
    return rung < 0 ? 0.0 : std::pow(static_cast<double>(eta), rung);
  };
  return level(to) - level(from);
}

double BracketPlan::bracket_units(const Bracket& bracket) const {
  double sum = 0;
  for (std::size_t i = 0; i < bracket.sizes.size(); ++i) {
    const int rung = bracket.first + static_cast<int>(i);
    sum += static_cast<double>(bracket.sizes[i]) * units(i == 0 ? -1 : rung - 1, rung);
  }
  return sum;
}

double BracketPlan::all_units() const {
  double sum = 0;
  for (const Bracket& bracket : brackets) sum += bracket_units(bracket);
  return sum;
}

std::int64_t BracketPlan::trials() const {
  std::int64_t sum = 0;
  for (const Bracket& bracket : brackets) {
    for (const std::int64_t size : bracket.sizes) sum += size;
  }
  return sum;
}

std::int64_t hyperband_round(int rungs, std::int64_t eta) {
  std::int64_t sum = 0;
  for (int first = 0; first < rungs; ++first) sum += bracket_trials(first, rungs, eta);
  return sum;
}

std::int64_t halving_trials(int rungs, std::int64_t eta) { return power(eta, rungs - 1); }

BracketPlan halving_plan(std::int64_t trials, int rungs, std::int64_t eta) {
  trials = std::max<std::int64_t>(1, trials);
  if (rungs == 0) {
    for (std::int64_t left = trials; left > 0; left /= eta) ++rungs;
  }
  BracketPlan plan{.eta = eta, .rungs = rungs, .brackets = {halving(0, trials, rungs, eta)}};
  plan.rungs = static_cast<int>(plan.brackets[0].sizes.size());
  return plan;
}

BracketPlan hyperband_plan(std::int64_t trials, int rungs, std::int64_t eta) {
  trials = std::max<std::int64_t>(1, trials);
  if (rungs == 0) {
    rungs = 1;
    while (hyperband_round(rungs + 1, eta) <= trials) ++rungs;
  }
  BracketPlan plan{.eta = eta, .rungs = rungs, .brackets = {}};
  for (int first = 0; trials > 0; first = (first + 1) % rungs) {
    const std::int64_t begun = std::min(trials, bracket_trials(first, rungs, eta));
    plan.brackets.push_back(halving(first, begun, rungs, eta));
    trials -= begun;
  }
  return plan;
}

}  // namespace nas
