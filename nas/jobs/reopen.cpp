// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/reopen.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/threads.h"
#include "nas/jobs/strategies/strategies.h"
#include "search_spaces/spaces.h"
#include "training/model/device.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// What the run decided when it began; runs of before left it to the schedule rule.
bool may_mirror(const JsonReader& forecast) {
  if (!forecast.has("mirroring")) return true;
  const JsonReader decided = forecast.at("mirroring");
  return !decided.json().is_null() && decided.at("mirror").boolean();
}

}  // namespace

TrainOptions base_options(const std::string& device, const std::string& precision, int threads) {
  TrainOptions base;
  base.device = device;
  base.precision = precision;
  base.threads = threads;
  return base;
}

void Reopened::open(ResultsDb& database, const RunFolder& folder, const ReopenOptions& options) {
  const std::string where = database.file().string();
  RunRecord run = database.run();
  bench.recipe = recipe_from_json(parse_json(run.recipe_json, where), where, strategy_kinds());
  const Json setup = parse_json(run.setup_json, where);
  const JsonReader reader(setup, where);
  bench.cases = case_selection_from_json(reader.at("cases").json(), where);
  bench.space = make_space(parse_json(run.space_json, where));
  base =
      base_options(options.device.empty() ? reader.at("device").text() : options.device,
                   reader.at("precision").text(),
                   options.threads >= 0 ? options.threads
                                        : static_cast<int>(reader.at("threads").integer(0, 4096)));
  if (reader.has("executor")) executor = reader.at("executor").text();
  if (reader.has("workers")) workers = reader.at("workers").text();
  const std::string recorded_folder = run.data_folder;
  if (!options.data.empty()) {
    run.data_folder = fs::absolute(options.data).lexically_normal().string();
  }
  check_data_is_there(run.data_folder, "voxnas search DATA --resume " + folder.text());
  const PrepareOptions prepare{.data = run.data_folder,
                               .fold = run.fold,
                               .how = data_options_from_json(reader),
                               .threads = base.threads,
                               .show_progress = options.show_progress};
  bench.prepared = reader.has("data_record")
                       ? open_same_data(prepare, reader.at("data_record").json())
                       : open_fold(prepare);
  bench.prepared.plan = plan_from_json(parse_json(run.plan_json, where), where);
  bench.prepared.data.orientation = bench.prepared.plan.orientation;
  open_cache(bench.prepared, prepare);
  NAS_CHECK(bench.prepared.cache.key() == reader.at("cache_key").text(),
            run.data_folder,
            ": the data set has changed since the run began (content hash ",
            reader.at("cache_key").text(),
            " then, ",
            bench.prepared.cache.key(),
            " now); start a new run");
  if (run.data_folder != recorded_folder) database.set_data_folder(run.data_folder);
  if (reader.at("processors").integer() != processor_count()) {
    log_warning("the run began on ",
                reader.at("processors").integer(),
                " processors, here are ",
                processor_count(),
                ": times and last digits may differ");
  }
  bench.make_evaluator(base, folder, options.show_progress);
  bench.evaluator->trainer().allow_mirroring(may_mirror(reader.at("forecast")));
}

}  // namespace nas
