// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "nas/imaging/dataset.h"
#include "nas/imaging/finding.h"
#include "nas/imaging/fingerprint.h"

namespace nas {

struct DoctorOptions {
  bool accept_misaligned = false;  // as `DataSet::accept_misaligned`
  /// Called with (cases done, cases in all), from any thread but never from two at once.
  std::function<void(std::int64_t, std::int64_t)> progress = {};
  int threads = 0;  // 0: all processors
  /// Makes a plan, or throws what is told as a finding. Called last, unless something is fatal
  /// before, with the sizes of the training cases as planning sees them (no intensities).
  std::function<void(const DataSet&, const Fingerprint&)> plan = {};
};

/// Examines every file of a data set on all processors, a few cases in memory at a time. Whatever
/// is wrong becomes a finding, also a dataset.json that cannot be read; worst findings first, then
/// by file.
std::vector<Finding> examine(const std::filesystem::path& folder,
                             const DoctorOptions& options = {});

}  // namespace nas
