// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

enum class Severity {
  Fatal,    // training would fail or learn from wrong data
  Warning,  // training runs, the result may suffer
  Note,     // good to know
};
std::string to_text(Severity severity);  // "fatal", "warning", "note"

/// One thing that the doctor found.
struct Finding {
  Severity severity = Severity::Note;
  std::string
      check;  // "missing-file", "shape-mismatch", "unknown-label", ...; docs/formats.md lists them
  std::filesystem::path file;   // the file or folder to look at
  std::string expected, found;  // one phrase each
  std::string advice;           // what to do
};
/// One line: "fatal shape-mismatch FILE: expected ..., found ...; do this".
std::string to_text(const Finding& finding);
Json to_json(const std::vector<Finding>&
                 findings);  // [{"severity","check","file","expected","found","advice"}]
bool any_fatal(const std::vector<Finding>& findings);

/// Examines every file of a data set on all processors, a few cases in memory at a time. Whatever
/// is wrong becomes a finding, also a dataset.json that cannot be read; worst findings first, then
/// by file. \param progress called with (cases done, cases in all), from any thread but never from
/// two at once. \param threads 0: all processors.
std::vector<Finding> examine(const std::filesystem::path& folder,
                             const std::function<void(std::int64_t, std::int64_t)>& progress = {},
                             int threads = 0);

}  // namespace nas
