// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/core/json.h"
#include "nas/report/text.h"

/// What the report shows of a race; `story` is that of docs/formats.md ("Stories of stages").
namespace nas {

/// The learning curves of all contestants over the effort of their trainings: the plan's and the
/// chosen network's stand out, each with its expected score at the horizon. They are what compares
/// the two where the plan was not trained to the end. "" if the story is not a race's.
std::string race_svg(const Json& story);

/// Contestants by their last score: effort, score, what was expected at the horizon, and why they
/// went no further.
Table race_table(const Json& story);

}  // namespace nas
