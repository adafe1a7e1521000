// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/core/json.h"

/// The searched network against the baseline, from the details of their final trainings.
namespace nas {

/// Means per class and overall of one final training.
Json class_means(const Json& details);
/// Case by case, paired: differences, their mean with its interval, Wilcoxon's test, the verdict.
Json compare(const Json& best, const Json& baseline, std::uint64_t seed);
/// One sentence on how the search ended. \param data of report_data(), with "comparison" if there is one.
std::string verdict_sentence(const Json& data);

}  // namespace nas
