// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/lead_search.h"

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/core/stop.h"
#include "nas/jobs/leading/deliver.h"
#include "nas/jobs/leading/description_listener.h"
#include "nas/jobs/leading/keep_listener.h"
#include "nas/jobs/leading/worker_pool.h"
#include "nas/search/log_listener.h"
#include "nas/search/prior.h"
#include "nas/search/warm_start.h"
#include "training/data/tensorboard_listener.h"

namespace nas {

SearchEnd lead_search(LedSearch led, ResultsDb& database, const RunFolder& folder) {
  const RunRecord run = database.run();
  const std::string where = database.file().string();
  const Json recorded = parse_json(run.setup_json, where);
  const auto log = make_log_listener(*led.space, led.clock);
  std::vector<std::unique_ptr<SearchListener>> heard;
  if (auto describing = make_description_listener(*led.space, folder.path())) {
    heard.push_back(std::move(describing));
  }
  heard.push_back(make_tensorboard_listener(*led.space, folder.path()));
  for (auto& one : led.audience) heard.push_back(std::move(one));
  // Last: others may look into folders.
  heard.push_back(make_keep_listener(folder.path(), recorded.value("keep", kKeptFolders)));

  SearchSetup setup;
  setup.database = &database;
  setup.space = led.space;
  setup.evaluator = led.evaluator;
  setup.recipe = std::move(led.recipe);
  setup.budget = run.budget;
  setup.seed = run.seed;
  setup.clock = led.clock;
  setup.should_stop = stop_requested;
  setup.folder = folder.path();
  setup.listeners = {log.get()};
  for (const auto& one : heard) setup.listeners.push_back(one.get());
  if (recorded.contains("portfolio")) {
    setup.portfolio =
        portfolio_from_json(recorded.at("portfolio"), *led.space, where + ": portfolio");
  }
  if (recorded.contains("from")) enqueue_warm_start(database, recorded.at("from"));
  setup.workers = led.others;
  std::unique_ptr<WorkerPool> pool;
  if (!led.devices.empty()) {
    setup.budget.workers = std::ssize(led.devices);
    setup.workers = [&]() -> std::int64_t {
      // Not before the first stage has begun: a search that is refused starts nobody.
      if (!pool) {
        pool = std::make_unique<WorkerPool>(folder, led.devices, led.threads, led.executor);
      }
      return pool->tend();
    };
  }
  const SearchEnd end = run_search(setup);
  pool.reset();
  while (!heard.empty()) heard.pop_back();  // in reverse; servers get their last letters
  if (end == SearchEnd::Stopped) {
    if (run.budget.has_clock()) database.set_clock(led.clock());
    log_info("stopped; go on with\n  ", led.go_on);
    return end;
  }
  deliver(folder, database, led.clock);
  return end;
}

}  // namespace nas
