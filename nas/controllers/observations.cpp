// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/observations.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::size_t kBestPoints = 5;
constexpr double kNormal95 = 1.959964;

Eigen::MatrixXd columns(const std::vector<std::vector<double>>& points, std::size_t rows) {
  Eigen::MatrixXd matrix(static_cast<Eigen::Index>(rows), std::ssize(points));
  for (std::size_t k = 0; k < points.size(); ++k) {
    matrix.col(static_cast<Eigen::Index>(k)) =
        Eigen::Map<const Eigen::VectorXd>(points[k].data(), std::ssize(points[k]));
  }
  return matrix;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

Observations observations(const std::vector<EarlierRun>& earlier,
                          const Ledger& ledger,
                          const UnitSpace& space) {
  Observations result;
  for (const UnitDimension& dimension : space.dimensions()) {
    result.category.push_back(dimension.category);
  }
  std::vector<std::vector<double>> points, pending;
  std::vector<double> values;  // less the mean of their run
  double squares = 0;
  int group = 0;
  for (const EarlierRun& run : earlier) {
    ++group;
    std::vector<double> scores;
    for (const EarlierResult& r : run.results) scores.push_back(r.score);
    const double mean = mean_of(scores);
    for (const EarlierResult& r : run.results) {
      points.push_back(space.point(r.genotype));
      values.push_back(r.score - mean);
      result.groups.push_back(group);
      squares += values.back() * values.back();
    }
  }
  std::vector<double> scores;
  for (const Ledger::Row& row : ledger.rows()) {
    if (row.done()) scores.push_back(row.outcome.score);
  }
  NAS_CHECK_KIND(Internal, !scores.empty(), "observations: nothing has finished");
  result.mean = mean_of(scores);
  const double worst = *std::ranges::min_element(scores);
  std::vector<std::pair<double, std::size_t>> order;
  for (const Ledger::Row& row : ledger.rows()) {
    std::vector<double> point = space.point(row.proposal.genotype);
    if (!row.told) {
      pending.push_back(std::move(point));
      continue;
    }
    if (row.done()) {
      order.emplace_back(-row.outcome.score, points.size());
      squares += std::pow(row.outcome.score - result.mean, 2);
    }
    points.push_back(std::move(point));
    values.push_back((row.done() ? row.outcome.score : worst) - result.mean);
    if (group > 0) result.groups.push_back(0);
  }
  const auto of_earlier = std::ranges::count_if(result.groups, [](int g) { return g > 0; });
  const auto counted = static_cast<double>(std::ssize(scores) + of_earlier);
  const double variance = squares / counted;
  result.deviation = variance > 0 ? std::sqrt(variance) : 1;
  std::ranges::stable_sort(order);
  for (std::size_t i = 0; i < std::min(order.size(), kBestPoints); ++i) {
    result.best_points.push_back(points[order[i].second]);
  }
  result.best = (-order.front().first - result.mean) / result.deviation;
  result.points = columns(points, space.size());
  result.pending = columns(pending, space.size());
  result.values =
      Eigen::Map<const Eigen::VectorXd>(values.data(), std::ssize(values)) / result.deviation;
  return result;
}

void Observations::keep(std::size_t best_count, std::size_t newest) {
  const auto n = static_cast<std::size_t>(values.size());
  if (n <= best_count + newest) return;
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return values[static_cast<Eigen::Index>(a)] > values[static_cast<Eigen::Index>(b)];
  });
  std::vector<std::size_t> kept(order.begin(),
                                order.begin() + static_cast<std::ptrdiff_t>(best_count));
  std::vector<std::size_t> rest(order.begin() + static_cast<std::ptrdiff_t>(best_count),
                                order.end());
  std::ranges::sort(rest);
  kept.insert(kept.end(), rest.end() - static_cast<std::ptrdiff_t>(newest), rest.end());
  std::ranges::sort(kept);
  Observations part = *this;
  part.points.resize(points.rows(), std::ssize(kept));
  part.values.resize(std::ssize(kept));
  part.groups.clear();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const auto from = static_cast<Eigen::Index>(kept[i]), to = static_cast<Eigen::Index>(i);
    part.points.col(to) = points.col(from);
    part.values[to] = values[from];
    if (!groups.empty()) part.groups.push_back(groups[kept[i]]);
  }
  *this = std::move(part);
}

GaussianProcess Observations::process(bool with_pending) const {
  if (!with_pending) return {points, category, groups};
  Eigen::MatrixXd all(points.rows(), points.cols() + pending.cols());
  all << points, pending;
  std::vector<int> all_groups = groups;
  if (!groups.empty()) all_groups.resize(static_cast<std::size_t>(all.cols()), 0);
  return {all, category, all_groups};
}

std::optional<double> paired_half_width(const std::vector<double>& a,
                                        const std::vector<double>& b) {
  if (a.size() != b.size()) return std::nullopt;
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isfinite(a[i] - b[i])) differences.push_back(a[i] - b[i]);
  }
  const auto n = static_cast<double>(differences.size());
  if (n < 2) return std::nullopt;
  const double mean = mean_of(differences);
  double squares = 0;
  for (const double d : differences) squares += (d - mean) * (d - mean);
  return kNormal95 * std::sqrt(squares / (n - 1) / n);
}

}  // namespace nas
