// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/importance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "nas/controllers/gaussian_process.h"
#include "nas/core/error.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

constexpr double kBest = 0.25;
constexpr int kParts = 6;       // of the range of a number
constexpr double kAdded = 0.5;  // observations, to each value
constexpr int kResamples = 1000;
constexpr std::size_t kMostFitted = 400;  // results that the process is fitted to
constexpr int kFit = 80;                  // evaluations

struct Table {
  std::vector<int> sizes;                // values or parts of each gene
  std::vector<std::vector<int>> values;  // [result, gene]; sizes[gene]: inactive
  std::vector<double> scores;
};

Table table_of(const UnitSpace& space, const std::vector<EarlierResult>& results) {
  Table table;
  for (const UnitDimension& d : space.dimensions()) {
    table.sizes.push_back(d.category ? d.count : std::min(kParts, d.count));
  }
  for (const EarlierResult& result : results) {
    const std::vector<double> point = space.point(result.genotype);
    const std::vector<char> active = space.active(point);
    std::vector<int> row;
    for (std::size_t d = 0; d < point.size(); ++d) {
      const int size = table.sizes[d];
      row.push_back(!active[d] ? size
                    : space.dimensions()[d].category
                        ? static_cast<int>(point[d])
                        : std::min(size - 1, static_cast<int>(point[d] * size)));
    }
    table.values.push_back(std::move(row));
    table.scores.push_back(result.score);
  }
  return table;
}

/// Divergence of each gene between the best and all of these results.
std::vector<double> divergences(const Table& table, std::span<const std::size_t> items) {
  std::vector<std::size_t> order(items.begin(), items.end());
  std::ranges::stable_sort(
      order, [&](std::size_t a, std::size_t b) { return table.scores[a] > table.scores[b]; });
  const auto best = static_cast<std::size_t>(std::ceil(kBest * static_cast<double>(order.size())));
  std::vector<double> result;
  for (std::size_t g = 0; g < table.sizes.size(); ++g) {
    const auto size = static_cast<std::size_t>(table.sizes[g]) + 1;
    std::vector<double> all(size, kAdded), top(size, kAdded);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const auto value = static_cast<std::size_t>(table.values[order[i]][g]);
      all[value] += 1;
      if (i < best) top[value] += 1;
    }
    const double of_all = std::accumulate(all.begin(), all.end(), 0.0);
    const double of_top = std::accumulate(top.begin(), top.end(), 0.0);
    double sum = 0;
    for (std::size_t v = 0; v < size; ++v) {
      const double p = all[v] / of_all, q = top[v] / of_top;
      sum += p * (q / p - 1) * (q / p - 1);
    }
    const bool one_value = std::ranges::all_of(
        order, [&](std::size_t i) { return table.values[i][g] == table.values[order[0]][g]; });
    result.push_back(one_value ? 0 : sum);
  }
  return result;
}

double share_of(const std::vector<double>& values, std::size_t g) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum > 0 ? values[g] / sum : 0;
}

/// 1 / length scale^2 of every dimension, of the newest results; empty where it cannot be fitted.
Eigen::VectorXd relevances(const UnitSpace& space, const std::vector<EarlierResult>& results) {
  const std::size_t first = results.size() > kMostFitted ? results.size() - kMostFitted : 0;
  const auto n = static_cast<Eigen::Index>(results.size() - first);
  Eigen::MatrixXd points(static_cast<Eigen::Index>(space.size()), n);
  Eigen::VectorXd values(n);
  for (Eigen::Index i = 0; i < n; ++i) {
    const EarlierResult& result = results[first + static_cast<std::size_t>(i)];
    const std::vector<double> point = space.point(result.genotype);
    points.col(i) = Eigen::Map<const Eigen::VectorXd>(point.data(), std::ssize(point));
    values[i] = result.score;
  }
  values.array() -= values.mean();
  const double deviation = std::sqrt(values.squaredNorm() / static_cast<double>(n));
  if (deviation > 0) values /= deviation;
  std::vector<char> category;
  for (const UnitDimension& d : space.dimensions()) category.push_back(d.category);
  const GaussianProcess process(std::move(points), std::move(category));
  const GpParameters fitted =
      process.fitted(values, GpParameters::standard(process.dimensions()), kFit);
  return (-2 * fitted.log_length.array()).exp();
}

}  // namespace

std::vector<GeneImportance> gene_importance(const SearchSpace& space,
                                            const std::vector<EarlierResult>& results,
                                            Rng rng) {
  NAS_CHECK_KIND(Usage,
                 std::ssize(results) >= kFewestForImportance,
                 "importance of genes: expected at least ",
                 kFewestForImportance,
                 " finished trials, found ",
                 results.size());
  std::vector<std::string> groups;
  for (const Gene& gene : space.genes()) groups.push_back(gene.group);
  const UnitSpace units(space, groups, results.front().genotype);
  const Table table = table_of(units, results);
  std::vector<std::size_t> all(results.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  const std::vector<double> whole = divergences(table, all);
  const Eigen::VectorXd relevance = relevances(units, results);
  std::vector<GeneImportance> genes;
  for (std::size_t d = 0; d < units.size(); ++d) {
    GeneImportance gene;
    gene.gene = units.gene(d).name;
    gene.share = share_of(whole, d);
    gene.interval = bootstrap(
        std::ssize(results),
        [&](std::span<const std::size_t> items) { return share_of(divergences(table, items), d); },
        rng,
        0.95,
        kResamples);
    gene.relevance = relevance[static_cast<Eigen::Index>(d)] / relevance.sum();
    genes.push_back(std::move(gene));
  }
  std::ranges::stable_sort(
      genes, [](const GeneImportance& a, const GeneImportance& b) { return a.share > b.share; });
  return genes;
}

}  // namespace nas
