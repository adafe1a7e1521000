// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "experiments/curves/curve_table.h"
#include "nas/core/rng.h"

namespace nas::test {

struct SyntheticCurves {
  int networks = 16, inner_cases = 12, held_out_cases = 40;
  double most_effort = 2000;
  double growth = 1.5;         // of effort from point to point
  double size_effect = 0.008;  // of doubling a network's cost, on its final score
  double deficit = 0.06, exponent = 0.6;
};

/// Trainings as real ones look: power laws in the number of steps, small networks early ahead and
/// overtaken, cases that are hard for all, cases that are hard for one, a wobble from look to look.
inline CurveTable synthetic_curves(const SyntheticCurves& options, Rng rng) {
  CurveTable table;
  table.data = "synthetic curves";
  table.command = "synthetic_curves in tests/support/synthetic_curves.h";
  const auto names = [](const char* what, int count) {
    std::vector<std::string> list;
    for (int i = 0; i < count; ++i) list.push_back(what + std::to_string(i));
    return list;
  };
  table.inner_cases = names("inner_", options.inner_cases);
  table.held_out_cases = names("held_out_", options.held_out_cases);
  const int cases = options.inner_cases + options.held_out_cases;
  std::vector<double> difficulty;
  for (int j = 0; j < cases; ++j) difficulty.push_back(0.05 * rng.normal());
  for (int i = 0; i < options.networks; ++i) {
    RecordedNetwork n;
    n.relative_cost = i == 0 ? 1 : std::exp(rng.uniform(std::log(0.05), std::log(2.5)));
    n.name = i == 0 ? "plan" : "network " + std::to_string(i);
    n.genotype_text = "number=" + std::to_string(i);
    n.parameters = std::llround(3e6 * n.relative_cost);
    n.macs = std::llround(2e10 * n.relative_cost);
    const double c = 0.88 + options.size_effect * std::log2(n.relative_cost) +
                     (i == 0 ? 0 : 0.008 * rng.normal());
    const double a = options.deficit * std::exp(0.3 * rng.normal());
    const double b = options.exponent * std::exp(0.15 * rng.normal());
    std::vector<double> own;
    for (int j = 0; j < cases; ++j) own.push_back(0.012 * rng.normal());
    const auto look = [&](double effort, double more) {
      RecordedPoint p;
      p.effort = effort;
      p.steps = effort / n.relative_cost;
      const double wobble = 0.002 * rng.normal();
      for (int j = 0; j < cases; ++j) {
        const auto place = static_cast<std::size_t>(j);
        const double score = c - a * std::pow(p.steps / 100, -b) + more + wobble +
                             difficulty[place] + own[place] + 0.004 * rng.normal();
        (j < options.inner_cases ? p.inner : p.held_out).push_back(std::clamp(score, 0.0, 1.0));
      }
      return p;
    };
    for (double effort = 2; effort <= options.most_effort; effort *= options.growth) {
      n.curve.push_back(look(effort, 0));
    }
    for (const std::size_t k : {n.curve.size() / 2, n.curve.size() - 1}) {
      n.decayed.push_back(look(n.curve[k].effort, 0.002));
    }
    table.networks.push_back(std::move(n));
  }
  return table;
}

}  // namespace nas::test
