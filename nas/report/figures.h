// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/core/json.h"
#include "nas/report/text.h"

/// What the report draws: SVG plots, slices of cases, the network. `data` is report_data().
namespace nas {

/// All search trials by the time of their end (by number where the budget is steps), and the best
/// so far as a stair. Empty without a scored trial.
std::string search_curve_svg(const Json& data);
/// One dot a case: baseline against searched; above the diagonal the searched network is better.
std::string scatter_svg(const Json& comparison);
/// The differences in order of size, and their mean with its interval.
std::string difference_svg(const Json& comparison);

/// Worst, median and best held-out case of the delivered network in the three planes of the patient,
/// however the files are stored; a note where they are gone.
/// \param label of the delivered final training: its folder in RUN/predictions.
void add_pictures(Html& page,
                  const std::filesystem::path& run_folder,
                  const Json& data,
                  const std::string& label);
/// The searched network and the delivered one, drawn by Graphviz; a note where that fails, nothing
/// before there is one.
void add_drawings(Html& page, const std::filesystem::path& run_folder, const Json& data);

}  // namespace nas
