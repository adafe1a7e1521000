// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "nas/controllers/gaussian_process.h"
#include "nas/search/draws.h"
#include "nas/search/sobol_points.h"
#include "nas/search/unit_space.h"

namespace nas {

/// Looks for the genotypes of highest log expected improvement over `best` under a conditioned
/// process.
struct AcquisitionSearch {
  const SearchSpace& space;
  const UnitSpace& points;
  SobolPoints& sobol;
  Draws& draws;
  const GaussianProcess& process;
  double best = 0;                               // value to improve on
  std::vector<std::vector<double>> around = {};  // points whose neighbourhood is looked at too

  struct Candidate {
    double value = 0;  // log expected improvement
    std::vector<double> point;
  };
  std::vector<Candidate> candidates = {};               // best first, after find()
  std::vector<std::pair<double, double>> outlook = {};  // mean, deviation of every Sobol candidate

  static constexpr std::size_t kCandidates = 2048, kSearches = 10;

  void find(Rng rng);
  /// Takes `less` off the value of those that lead.
  void discount(const std::function<double(const Genotype&)>& less);
  /// The highest mean + deviations * deviation that was seen.
  double upper_bound(double deviations) const;
  /// The best one that is valid, admissible and new, with its value; it is taken from draws.
  std::optional<std::pair<Genotype, double>> take();

 private:
  std::vector<std::vector<double>> first_points(Rng& rng) const;
  Candidate climbed(Candidate from) const;
  bool climb_numbers(Candidate& at) const;
  bool try_values(Candidate& at) const;
};

}  // namespace nas
