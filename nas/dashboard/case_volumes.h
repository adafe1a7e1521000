// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/core/json.h"
#include "nas/dashboard/live_run.h"

/// Cases of a run, and their volumes for the viewer. Names of cases and layers come from a browser:
/// they are looked up, never put together to a path. Errors as in run_pages.h.
namespace nas {

/// Held-out cases with their scores by final training, the worst first, and what can be shown of
/// them: {"labels", "channels", "layers": [{"label", "files", "reason"}], "cases": [{"id", "image",
/// "scores": {label: dice}, "classes": {label: [...]}}]}.
Json cases_page(LiveRun& run);

/// What errors of a prediction are called in the "error" layer.
enum ErrorVoxel : std::int16_t { kRight = 0, kMissed = 1, kExtra = 2, kWrongClass = 3 };

struct VolumeAnswer {
  std::string bytes;  // a gzipped NIfTI file; qform and sform say the same
  std::string note;   // "halved", "resampled to the image's grid"; "" if nothing was done
};
/// \param layer "image-0" (a channel), "reference", "prediction-best", "error-best". Label maps are
/// uint8; an image of over 64 M voxels is halved.
VolumeAnswer case_volume(LiveRun& run, const std::string& id, const std::string& layer);

/// Connected parts (26 neighbours) of an error layer, largest first, at most 200: {"parts":
/// [{"kind", "voxels", "at": [x, y, z] voxel, "mm": [x, y, z]}]}. `at` is the voxel of the part that is nearest to its
/// centre.
Json case_errors(LiveRun& run, const std::string& id, const std::string& label);

/// A slice of the case with outlines as PNG, for browsers without WebGL 2. \param prediction "" for
/// none. \param axis 0 to 2. \param index -1: the fullest.
std::string case_slice(LiveRun& run,
                       const std::string& id,
                       const std::string& prediction,
                       std::int64_t channel,
                       std::int64_t axis,
                       std::int64_t index);

}  // namespace nas
