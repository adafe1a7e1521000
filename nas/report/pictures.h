// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/core/json.h"
#include "nas/report/text.h"

/// The pictures of the report: slices of cases, drawings of networks. `data` is report_data().
namespace nas {

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
