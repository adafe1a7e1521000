// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/core/json.h"
#include "nas/report/text.h"

/// What the report tells of the controllers (nas/controllers): by the keys of their stories.
namespace nas {

/// How the genotypes came about, in one or two sentences; "" where the story has no such keys.
std::string controller_sentence(const Json& story);
/// How much each gene contributes to the distance of two genotypes, as the Gaussian process sees it.
Table relevance_table(const Json& story);
/// Which genes had to do with being among the best. \param stage of report_data().
Table importance_table(const Json& stage);
/// Brackets of Hyperband: where each begins and how many go on; no rows for a single bracket.
Table bracket_table(const Json& story);

}  // namespace nas
