// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

/// What a recorded run says of one network: its score less that of the plan of the same run, at
/// equal compute.
struct PriorResult {
  std::string genotype_text;  // SearchSpace::to_text
  double difference = 0;
};

/// A recorded run: what its data were like, and how networks fared.
struct PriorRun {
  std::string name;              // for people
  std::vector<double> features;  // of the data (data_features in nas/imaging/data_features.h)
  std::vector<PriorResult> results;
};

/// Root mean square of the differences; infinite where the lists are not equally long.
double feature_distance(const std::vector<double>& a, const std::vector<double>& b);

/// Starters with what is known of them: Starter::shift is the mean difference in the recorded runs,
/// weighted by how alike their data are, and shrunk towards 0 where little is known (ours: one more
/// run of weight 1 that saw no difference). The best network of each run that is alike enough and
/// that the space can express comes in as "best of <run>". Ordered by shift; the plan stays first,
/// equal ones keep their order.
/// \param features of the data at hand. Results that the space does not understand count for
/// nothing.
std::vector<Starter> informed_portfolio(const SearchSpace& space,
                                        std::vector<Starter> starters,
                                        const std::vector<PriorRun>& runs,
                                        const std::vector<double>& features);

}  // namespace nas
