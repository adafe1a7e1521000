// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/core/json.h"
#include "nas/search/stage.h"

namespace nas {

class ResultsDb;

/// Everything that `voxnas report RUN` shows, as one JSON value (also what --json prints): run,
/// data, forecast, trials, search curve, comparison per case, verdict. Reads RUN/results.sqlite
/// only. \throws Error naming the file.
Json report_data(const std::filesystem::path& run_folder);
Json report_data(const ResultsDb& database);

struct ReportOptions {
  bool pictures =
      true;  // of the worst, median and best case; needs the data set folder and RUN/predictions
  std::string sections = {};  // HTML of others that is set before "To repeat it"
  StrategyKinds kinds = {};   // the table of all kinds, for their words
};

/// One self-contained HTML page: no script, no outside file.
std::string html_report(const std::filesystem::path& run_folder, const ReportOptions& options = {});
/// The style sheet of the page.
const char* report_style();
std::string markdown_report(const std::filesystem::path& run_folder,
                            const StrategyKinds& kinds = {});

}  // namespace nas
