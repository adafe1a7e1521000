// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
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

/// One thing that is wrong with a data set, or worth knowing of it.
struct Finding {
  Severity severity = Severity::Note;
  std::string check;            // "missing-file", "shape-mismatch", ...; docs/formats.md lists them
  std::string case_id;          // "" for the data set as a whole
  std::filesystem::path file;   // the file or folder to look at
  std::string expected, found;  // one phrase each
  std::string advice;           // what to do
};
/// "case ID, FILE: expected ..., found ...; do this": in these words every verb tells it.
std::string sentence(const Finding& finding);
/// One line: "fatal shape-mismatch" and the sentence.
std::string to_text(const Finding& finding);
/// [{"severity","check","case","file","expected","found","advice"}]; "case" is null for the whole.
Json to_json(const std::vector<Finding>& findings);
bool any_fatal(const std::vector<Finding>& findings);

/// \throws Error(Input) with the sentences of the fatal findings, the first five of them, unless
/// there is none.
void stop_at_fatal(const std::vector<Finding>& findings, const std::filesystem::path& data_folder);

}  // namespace nas
