// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/finding.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr int kShown = 5;

bool is_fatal(const Finding& f) { return f.severity == Severity::Fatal; }

}  // namespace

std::string to_text(Severity severity) {
  switch (severity) {
    case Severity::Fatal:
      return "fatal";
    case Severity::Warning:
      return "warning";
    case Severity::Note:
      return "note";
  }
  return "note";
}

std::string sentence(const Finding& f) {
  return concat_text(f.case_id.empty() ? "" : "case " + f.case_id + ", ",
                     f.file.string(),
                     ": expected ",
                     f.expected,
                     ", found ",
                     f.found,
                     "; ",
                     f.advice);
}

std::string to_text(const Finding& f) {
  return to_text(f.severity) + " " + f.check + " " + sentence(f);
}

Json to_json(const std::vector<Finding>& findings) {
  Json out = Json::array();
  for (const Finding& f : findings) {
    out.push_back({{"severity", to_text(f.severity)},
                   {"check", f.check},
                   {"case", f.case_id.empty() ? Json() : Json(f.case_id)},
                   {"file", f.file.string()},
                   {"expected", f.expected},
                   {"found", f.found},
                   {"advice", f.advice}});
  }
  return out;
}

bool any_fatal(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), is_fatal);
}

void stop_at_fatal(const std::vector<Finding>& findings, const std::filesystem::path& data_folder) {
  const auto count = std::count_if(findings.begin(), findings.end(), is_fatal);
  if (count == 0) return;
  if (count == 1) {
    fail(ErrorKind::Input, sentence(*std::find_if(findings.begin(), findings.end(), is_fatal)));
  }
  std::string text;
  int shown = 0;
  for (const Finding& f : findings) {
    if (is_fatal(f) && shown++ < kShown) text += "\n  " + sentence(f);
  }
  fail(ErrorKind::Input,
       data_folder.string(),
       ": ",
       count,
       " findings stop this; `voxnas doctor ",
       data_folder.string(),
       "` tells all:",
       text);
}

}  // namespace nas
