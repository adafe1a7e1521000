// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/json.h"
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
  std::string name;              // for people: its data
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

/// Why the order is as it is, a line each: which runs were asked and how alike their data are, then
/// each starter with what is known of it.
std::vector<std::string> prior_words(const SearchSpace& space,
                                     const std::vector<Starter>& informed,
                                     const std::vector<PriorRun>& runs,
                                     const std::vector<double>& features);

/// For the record of a run, and back. \throws Error(Input) naming `where`.
Json to_json(const std::vector<Starter>& portfolio, const SearchSpace& space);
std::vector<Starter> portfolio_from_json(const Json& value,
                                         const SearchSpace& space,
                                         const std::string& where);

}  // namespace nas
