// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/controllers/problems.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

namespace nas {
namespace {

double real(const SearchSpace& space, const Genotype& g, std::size_t i) {
  return space.genes()[i].value(g.values[i]);
}

double branin(double x, double y) {
  constexpr double pi = std::numbers::pi;
  const double a = y - 5.1 / (4 * pi * pi) * x * x + 5 / pi * x - 6;
  return a * a + 10 * (1 - 1 / (8 * pi)) * std::cos(x) + 10;
}

double hartmann6(const std::vector<double>& x) {
  constexpr double alpha[4] = {1.0, 1.2, 3.0, 3.2};
  constexpr double a[4][6] = {{10, 3, 17, 3.5, 1.7, 8},
                              {0.05, 10, 17, 0.1, 8, 14},
                              {3, 3.5, 1.7, 10, 17, 8},
                              {17, 8, 0.05, 10, 0.1, 14}};
  constexpr double p[4][6] = {{0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886},
                              {0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991},
                              {0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650},
                              {0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381}};
  double sum = 0;
  for (int i = 0; i < 4; ++i) {
    double inner = 0;
    for (std::size_t j = 0; j < 6; ++j) inner += a[i][j] * (x[j] - p[i][j]) * (x[j] - p[i][j]);
    sum -= alpha[i] * std::exp(-inner);
  }
  return sum;
}

/// Every optimiser has a rate of its own that suits it, and a loss that it cannot get below.
double mixed(int optimizer, double rate, double decay, int layers, double dropout) {
  constexpr double best_rate[4] = {-1.5, -3, -3.2, -2}, floor[4] = {0.03, 0.01, 0, 0.02};
  const double off = std::log10(rate) - best_rate[optimizer];
  const double of_decay = std::log10(decay) + 4;
  return floor[optimizer] + 0.05 * off * off + 0.01 * of_decay * of_decay +
         0.004 * (layers - 5) * (layers - 5) + 0.3 * (dropout - 0.15) * (dropout - 0.15) +
         0.01 * off * (layers - 5) * 0.5;
}

}  // namespace

Gene number_gene(std::string name, Gene::Kind kind, double lo, double hi, bool log) {
  Gene gene;
  gene.name = std::move(name);
  gene.group = "training";
  gene.kind = kind;
  gene.lo = lo;
  gene.hi = hi;
  gene.log = log;
  gene.planned = static_cast<int>(gene.count() / 2);
  return gene;
}

std::vector<Problem> controller_problems() {
  std::vector<Problem> problems;
  using enum Gene::Kind;
  problems.push_back({"branin",
                      {number_gene("x", Real, -5, 10), number_gene("y", Real, 0, 15)},
                      0.39788735772973816,
                      [](const SearchSpace& s, const Genotype& g) {
                        return branin(real(s, g, 0), real(s, g, 1));
                      }});
  Problem hartmann{"hartmann6", {}, -3.322368011391339, {}};
  for (int i = 0; i < 6; ++i)
    hartmann.genes.push_back(number_gene("x" + std::to_string(i), Real, 0, 1));
  hartmann.value = [](const SearchSpace& s, const Genotype& g) {
    std::vector<double> x;
    for (std::size_t i = 0; i < 6; ++i) x.push_back(real(s, g, i));
    return hartmann6(x);
  };
  problems.push_back(std::move(hartmann));
  Gene optimizer{
      .name = "optimizer", .group = "training", .values = {"sgd", "adam", "adamw", "muon"}};
  problems.push_back({"mixed",
                      {optimizer,
                       number_gene("rate", Real, 1e-5, 1e-1, true),
                       number_gene("decay", Real, 1e-6, 1e-2, true),
                       number_gene("layers", Integer, 1, 8),
                       number_gene("dropout", Real, 0, 0.5)},
                      0,
                      [](const SearchSpace& s, const Genotype& g) {
                        return mixed(g.values[0],
                                     real(s, g, 1),
                                     real(s, g, 2),
                                     static_cast<int>(real(s, g, 3)),
                                     real(s, g, 4));
                      }});
  return problems;
}

}  // namespace nas
