// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/label_scheme.h"

namespace nas {

/// What "labels" of a dataset.json says.
struct StatedLabels {
  std::vector<std::string> names;      // index = class id, background first
  std::optional<std::int64_t> ignore;  // nnU-Net's "ignore": the number after the last class
};

/// ["background", "a"] | {"0": "background", "1": "a"} (MSD) | {"background": 0, "a": 1} (nnU-Net).
/// \throws Error(Input) naming the key if the numbers are not 0, 1, 2, ..., background is not 0, or
/// a name or number appears twice.
StatedLabels read_labels(const JsonReader& value);

/// The labels of a whole dataset.json, nnU-Net's regions and ignored label included.
/// \param order names of "labels" in the order of the file: it numbers regions.
LabelScheme read_label_scheme(const JsonReader& dataset, const std::vector<std::string>& order);

/// "CT" | ["FLAIR", "T1"] | {"0": "FLAIR", "1": "T1"}. \throws Error(Input) naming the key.
std::vector<std::string> read_channel_names(const JsonReader& value);
/// Those of a whole dataset.json: "channel_names" (nnU-Net v2), else "modality" (MSD); {"image"} if
/// it has neither.
std::vector<std::string> stated_channel_names(const JsonReader& dataset);

}  // namespace nas
