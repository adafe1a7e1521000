// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/prior_sampling.h"

#include <algorithm>
#include <cmath>

#include "nas/controllers/truncated_normal.h"

namespace nas {

std::vector<double> PriorSampling::draw(std::span<const double> center, Rng& rng) const {
  const std::vector<char> active = space_->active(center);
  std::vector<double> point(space_->size());
  for (std::size_t d = 0; d < point.size(); ++d) {
    const bool category = space_->dimensions()[d].category;
    if (!active[d] || (category && !rng.chance(kStay))) {
      point[d] = space_->spread(d, rng.uniform());
    } else {
      point[d] = category ? center[d] : draw_truncated_normal(center[d], kDeviation, rng);
    }
  }
  space_->settle(point);
  return point;
}

double PriorSampling::log_density(std::span<const double> center,
                                  std::span<const double> point) const {
  const std::vector<char> known = space_->active(center), active = space_->active(point);
  double sum = 0;
  for (std::size_t d = 0; d < point.size(); ++d) {
    if (!active[d]) continue;
    const UnitDimension& dimension = space_->dimensions()[d];
    if (dimension.category) {
      const double each = 1.0 / dimension.count;
      sum += std::log(!known[d] ? each : (1 - kStay) * each + (point[d] == center[d] ? kStay : 0));
    } else if (known[d]) {
      sum += log_truncated_normal(point[d], center[d], kDeviation);
    }
  }
  return sum;
}

std::vector<double> PriorSampling::mutate(std::span<const double> from, Rng& rng) const {
  std::vector<double> point(from.begin(), from.end());
  const std::vector<char> active = space_->active(from);
  for (std::size_t d = 0; d < point.size(); ++d) {
    const UnitDimension& dimension = space_->dimensions()[d];
    if (!active[d]) {
      point[d] = space_->spread(d, rng.uniform());  // counts if a choice makes it active
    } else if (rng.chance(kMutation)) {
      if (dimension.category) {
        const auto other = static_cast<double>(rng.integer(0, dimension.count - 1));
        point[d] = other < point[d] ? other : other + 1;
      } else {
        point[d] = draw_truncated_normal(point[d], kDeviation, rng);
      }
    }
  }
  space_->settle(point);
  return point;
}

PriorMix prior_mix(const PriorSampling& sampling,
                   int rung,
                   std::int64_t eta,
                   bool ready,
                   std::span<const double> prior,
                   std::span<const double> incumbent,
                   const std::vector<std::vector<double>>& best_first) {
  PriorMix mix;
  mix.uniform = 1 / (1 + std::pow(static_cast<double>(eta), rung));
  mix.prior = 1 - mix.uniform;
  const auto top = static_cast<std::int64_t>(best_first.size()) / eta;
  if (!ready || top < 1) return mix;
  // The better a point, the more it counts.
  double of_prior = 0, of_incumbent = 0;
  for (std::int64_t i = 0; i < top; ++i) {
    const std::vector<double>& point = best_first[static_cast<std::size_t>(i)];
    const auto weight = static_cast<double>(top - i);
    of_prior += weight * std::exp(sampling.log_density(prior, point));
    of_incumbent += weight * std::exp(sampling.log_density(incumbent, point));
  }
  const double rest = mix.prior;
  mix.prior = rest * of_prior / (of_prior + of_incumbent);
  mix.incumbent = rest - mix.prior;
  return mix;
}

}  // namespace nas
