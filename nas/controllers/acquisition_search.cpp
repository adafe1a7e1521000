// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/acquisition_search.h"

#include <algorithm>
#include <cmath>

#include "nas/controllers/bounded_minimum.h"
#include "nas/controllers/expected_improvement.h"

namespace nas {
namespace {

constexpr std::size_t kNear = 32;     // points around each of `around`
constexpr double kNearBy = 0.05;      // their deviation
constexpr double kApart = 0.02;       // local searches begin this far apart, in some dimension
constexpr int kRounds = 4;            // of a local search
constexpr int kEvaluations = 25;      // of a gradient search
constexpr double kBetter = 1e-7;      // what counts as better, in log improvement
constexpr std::size_t kLeading = 64;  // that discount() looks at
constexpr double kLeastDeviation = 1e-9;

double log_improvement(double mean, double variance, double best) {
  return log_expected_improvement(mean, std::max(std::sqrt(variance), kLeastDeviation), best).value;
}

bool far_apart(const std::vector<double>& a, const std::vector<double>& b) {
  for (std::size_t d = 0; d < a.size(); ++d) {
    if (std::abs(a[d] - b[d]) > kApart) return true;
  }
  return false;
}

}  // namespace

std::vector<std::vector<double>> AcquisitionSearch::first_points(Rng& rng) const {
  std::vector<std::vector<double>> result;
  result.reserve(kCandidates + around.size() * kNear);
  if (space.linked_genes()) {
    // Drawn one by one its genes would hardly ever fit each other.
    const Genotype start = points.genotype(around.front());
    for (std::size_t i = 0; i < kCandidates / 4; ++i) {
      result.push_back(points.point(space.sample(rng, draws.groups(), &start)));
    }
  } else {
    const auto shift = sobol.shift(rng.split("shift"));
    for (std::size_t i = 0; i < kCandidates; ++i) {
      result.push_back(points.spread(sobol.point(i, shift)));
    }
  }
  const auto d = static_cast<std::int64_t>(points.size());
  for (const std::vector<double>& center : around) {
    for (std::size_t i = 0; i < kNear; ++i) {
      std::vector<double> near = center;
      // All numbers move a little, or one gene a lot.
      const bool little = i % 2 == 0;
      const auto moved = static_cast<std::size_t>(rng.integer(0, d));
      for (std::size_t j = 0; j < points.size(); ++j) {
        if (little && !points.dimensions()[j].category) {
          near[j] = std::clamp(near[j] + kNearBy * rng.normal(), 0.0, 1.0);
        } else if (!little && j == moved) {
          near[j] = points.spread(j, rng.uniform());
        }
      }
      points.settle(near);
      result.push_back(std::move(near));
    }
  }
  return result;
}

/// Along the gradient of the active numbers with many values.
bool AcquisitionSearch::climb_numbers(Candidate& at) const {
  std::vector<std::size_t> free;
  for (std::size_t d = 0; d < points.size(); ++d) {
    const UnitDimension& dimension = points.dimensions()[d];
    if (!dimension.category && !dimension.coarse && points.active(at.point, d)) {
      free.push_back(d);
    }
  }
  if (free.empty()) return false;
  const auto n = std::ssize(free);
  Eigen::VectorXd whole = Eigen::Map<const Eigen::VectorXd>(at.point.data(), std::ssize(at.point));
  Eigen::VectorXd start(n);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    start[i] = whole[static_cast<Eigen::Index>(free[static_cast<std::size_t>(i)])];
  }
  Eigen::VectorXd by_mean, by_variance;
  const Differentiable loss = [&](const Eigen::VectorXd& x, Eigen::VectorXd* gradient) {
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      whole[static_cast<Eigen::Index>(free[static_cast<std::size_t>(i)])] = x[i];
    }
    if (!gradient) {
      const auto p = process.predict(whole);
      return -log_improvement(p.mean, p.variance, best);
    }
    const auto p = process.predict(whole, by_mean, by_variance);
    const double sd = std::max(std::sqrt(p.variance), kLeastDeviation);
    const LogImprovement value = log_expected_improvement(p.mean, sd, best);
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const auto d = static_cast<Eigen::Index>(free[static_cast<std::size_t>(i)]);
      (*gradient)[i] = -(value.by_mean * by_mean[d] + value.by_sd * by_variance[d] / (2 * sd));
    }
    return -value.value;
  };
  const Minimum found = bounded_minimum(
      loss, start, Eigen::VectorXd::Zero(n), Eigen::VectorXd::Ones(n), kEvaluations);
  if (-found.value < at.value + kBetter) return false;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    at.point[free[static_cast<std::size_t>(i)]] = found.x[i];
  }
  at.value = -found.value;
  return true;
}

/// All values of every gene with few of them, one gene after the other.
bool AcquisitionSearch::try_values(Candidate& at) const {
  bool better = false;
  for (std::size_t d = 0; d < points.size(); ++d) {
    const UnitDimension& dimension = points.dimensions()[d];
    if (!dimension.category && !dimension.coarse) continue;
    if (!points.active(at.point, d)) continue;
    Eigen::MatrixXd trials(std::ssize(at.point), dimension.count);
    std::vector<double> each;
    for (int v = 0; v < dimension.count; ++v) {
      each = at.point;
      each[d] = dimension.category ? v : points.gene(d).unit(v);
      points.settle(each);
      trials.col(v) = Eigen::Map<const Eigen::VectorXd>(each.data(), std::ssize(each));
    }
    Eigen::VectorXd means, variances;
    process.predict_all(trials, means, variances);
    for (int v = 0; v < dimension.count; ++v) {
      const double value = log_improvement(means[v], variances[v], best);
      if (value < at.value + kBetter) continue;
      at.value = value;
      at.point.assign(trials.col(v).begin(), trials.col(v).end());
      better = true;
    }
  }
  return better;
}

AcquisitionSearch::Candidate AcquisitionSearch::climbed(Candidate from) const {
  for (int round = 0; round < kRounds; ++round) {
    const bool moved = climb_numbers(from);
    if (!try_values(from) && (!moved || round > 0)) break;
  }
  return from;
}

void AcquisitionSearch::find(Rng rng) {
  const std::vector<std::vector<double>> first = first_points(rng);
  Eigen::MatrixXd matrix(static_cast<Eigen::Index>(points.size()), std::ssize(first));
  for (std::size_t i = 0; i < first.size(); ++i) {
    matrix.col(static_cast<Eigen::Index>(i)) =
        Eigen::Map<const Eigen::VectorXd>(first[i].data(), std::ssize(first[i]));
  }
  Eigen::VectorXd means, variances;
  process.predict_all(matrix, means, variances);
  candidates.clear();
  outlook.clear();
  for (std::size_t i = 0; i < first.size(); ++i) {
    const auto k = static_cast<Eigen::Index>(i);
    outlook.emplace_back(means[k], std::sqrt(variances[k]));
    candidates.push_back({log_improvement(means[k], variances[k], best), first[i]});
  }
  const auto by_value = [](const Candidate& a, const Candidate& b) { return a.value > b.value; };
  std::ranges::stable_sort(candidates, by_value);
  std::vector<Candidate> climbed_ones;
  std::vector<const Candidate*> begun;
  for (const Candidate& c : candidates) {
    if (begun.size() == kSearches) break;
    if (!std::ranges::all_of(begun,
                             [&](const Candidate* b) { return far_apart(b->point, c.point); })) {
      continue;
    }
    begun.push_back(&c);
  }
  for (const Candidate* c : begun) climbed_ones.push_back(climbed(*c));
  candidates.insert(candidates.end(), climbed_ones.begin(), climbed_ones.end());
  std::ranges::stable_sort(candidates, by_value);
}

void AcquisitionSearch::discount(const std::function<double(const Genotype&)>& less) {
  const std::size_t count = std::min(kLeading, candidates.size());
  candidates.resize(count);
  for (Candidate& c : candidates) {
    const Genotype genotype = points.genotype(c.point);
    if (space.invalid_reason(genotype).empty()) c.value -= less(genotype);
  }
  std::ranges::stable_sort(
      candidates, [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
}

double AcquisitionSearch::upper_bound(double deviations) const {
  double highest = -INFINITY;
  for (const auto& [mean, deviation] : outlook) {
    highest = std::max(highest, mean + deviations * deviation);
  }
  return highest;
}

std::optional<std::pair<Genotype, double>> AcquisitionSearch::take() {
  for (const Candidate& c : candidates) {
    Genotype genotype = points.genotype(c.point);
    if (!space.invalid_reason(genotype).empty() || !draws.take(genotype)) continue;
    return std::pair{std::move(genotype), c.value};
  }
  return std::nullopt;
}

}  // namespace nas
