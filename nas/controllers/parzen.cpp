// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/parzen.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "nas/controllers/truncated_normal.h"

namespace nas {
namespace {

constexpr double kWidth = 0.08;
constexpr double kPriorWeight = 1;
constexpr double kMostPerRange = 100;  // a width is at least so small a part of the range

}  // namespace

Parzen::Parzen(const UnitSpace& space, const std::vector<std::vector<double>>& points)
    : space_(&space), points_(points) {
  const std::size_t n = points.size();
  const auto count = static_cast<double>(std::max<std::size_t>(1, n));
  width_ = std::max(kWidth * std::pow(count, -1 / (static_cast<double>(space.size()) + 4)),
                    1 / std::min(kMostPerRange, 2 + count));
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t old = n > kFull ? n - kFull : 0;
    weights_.push_back(i >= old ? 1
                                : 1 / count + (1 - 1 / count) * static_cast<double>(i) /
                                                  std::max(1.0, static_cast<double>(old) - 1));
  }
  weights_.push_back(kPriorWeight);
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (double& w : weights_) w /= sum;
  // A choice's prior weight is shared by all components.
  const double prior = kPriorWeight / static_cast<double>(weights_.size());
  other_share_ = prior / (1 + prior);
  const double log_normal = std::log(width_ * std::sqrt(2 * std::numbers::pi));
  for (const std::vector<double>& point : points_) {
    active_.push_back(space.active(point));
    log_masses_.emplace_back();
    for (std::size_t d = 0; d < space.size(); ++d) {
      const bool number = !space.dimensions()[d].category && active_.back()[d];
      log_masses_.back().push_back(number ? log_normal + std::log(mass_inside(point[d], width_))
                                          : 0);
    }
  }
}

std::vector<double> Parzen::draw(Rng& rng) const {
  std::vector<double> point(space_->size());
  for (std::size_t d = 0; d < point.size(); ++d) {
    double left = rng.uniform();
    std::size_t component = 0;
    while (component + 1 < weights_.size() && left >= weights_[component]) {
      left -= weights_[component++];
    }
    const bool category = space_->dimensions()[d].category;
    if (component == points_.size() || !active_[component][d] ||
        (category && rng.chance(other_share_))) {
      point[d] = space_->spread(d, rng.uniform());
    } else {
      const double at = points_[component][d];
      point[d] = category ? at : draw_truncated_normal(at, width_, rng);
    }
  }
  space_->settle(point);
  return point;
}

double Parzen::log_density(std::span<const double> point) const {
  const double precision = -0.5 / (width_ * width_);
  const std::vector<char> active = space_->active(point);
  std::vector<double> logs(weights_.size());
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const bool prior = i == points_.size();
    double squares = 0, masses = 0, factor = weights_[i];
    for (std::size_t d = 0; d < point.size(); ++d) {
      if (!active[d]) continue;  // holds nothing: the same for all
      const UnitDimension& dimension = space_->dimensions()[d];
      const bool known = !prior && active_[i][d];
      if (dimension.category) {
        const double each = 1.0 / dimension.count;
        factor *= !known ? each
                         : other_share_ * each + (points_[i][d] == point[d] ? 1 - other_share_ : 0);
      } else if (known) {
        squares += (point[d] - points_[i][d]) * (point[d] - points_[i][d]);
        masses += log_masses_[i][d];
      }
    }
    logs[i] = precision * squares - masses + std::log(factor);
  }
  const double top = *std::ranges::max_element(logs);
  double sum = 0;
  for (const double each : logs) sum += std::exp(each - top);
  return top + std::log(sum);
}

}  // namespace nas
