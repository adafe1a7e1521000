// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/deliver.h"

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "experiments/paper_tables/paper_tables.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/report/report.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// RUN/model becomes a copy of the delivered one of RUN/best and RUN/baseline.
void deliver_model(const RunFolder& folder, const std::vector<Trial>& trials) {
  const fs::path staging = folder.path() / "model.new";
  fs::remove_all(staging);
  fs::copy(folder.final_model(delivered_label(trials)), staging, fs::copy_options::recursive);
  replace_folder(staging, folder.model());
}

}  // namespace

void deliver(const RunFolder& folder, ResultsDb& database, const std::function<double()>& clock) {
  const Budget budget = database.run().budget;
  const auto store_clock = [&] {
    if (budget.has_clock()) database.set_clock(clock());
  };
  deliver_model(folder, database.trials());
  store_clock();
  write_file_atomic(
      folder.report(),
      html_report(folder.path(),
                  {.sections = tables_report_section(folder.path()), .kinds = strategy_kinds()}));
  store_clock();
  const Json summary = report_data(folder.path());
  log_info(summary.at("verdict").get<std::string>());
  log_info("model  ", folder.model().string());
  log_info("report ", folder.report().string());
  if (budget.has_clock()) {
    log_info("spent ", format_duration(clock()), " of ", format_duration(budget.seconds));
  }
}

}  // namespace nas
