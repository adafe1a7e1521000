// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/folds_job.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/run_folder.h"
#include "nas/imaging/dataset.h"
#include "nas/jobs/leading/run_lock.h"
#include "nas/jobs/prepare.h"
#include "nas/results/run_database.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// The name of the run's own copy of a network file.
const std::string kOwnNetwork = "network.json";

Json folds_json(const TrainJob& job) {
  Json json{{"format", "voxnas.folds"},
            {"version", 1},
            {"data", job.data.string()},
            {"budget_seconds", job.budget_seconds},
            {"steps", job.steps},
            {"network", job.network},
            {"weights", job.weights},
            {"configuration", job.configuration},
            {"options", job.options},
            {"base", to_json(job.base)}};
  add_data_options(json, job.how);
  return json;
}

/// The recorded job; what is not in the record comes from `asked`.
TrainJob read_folds_job(const fs::path& record, const TrainJob& asked) {
  const Json json = read_json(record);
  const JsonReader reader(json, record.string());
  NAS_CHECK(reader.at("format").text() == "voxnas.folds" && reader.at("version").integer() == 1,
            record.string(),
            ": expected format voxnas.folds, version 1");
  TrainJob job = asked;
  job.data = reader.at("data").text();
  if (!asked.data.empty()) job.data = fs::absolute(asked.data).lexically_normal();
  job.budget_seconds = reader.at("budget_seconds").number();
  job.steps = reader.at("steps").integer();
  job.network = reader.at("network").text();
  job.weights = reader.has("weights") && reader.at("weights").boolean();
  job.configuration = reader.at("configuration").text();
  job.how = data_options_from_json(reader);
  job.options = reader.at("options").text();
  job.options_name = record.string() + ": options";
  job.base = train_options_from_json(reader.at("base").json(), record.string() + ": base");
  job.resume = false;
  return job;
}

std::string dice_of(const Json& row, const char* key) {
  const Json& value = row.at(key);
  return dice_text(value.is_number() ? std::optional(value.get<double>()) : std::nullopt);
}

/// A fold that is done must have been of the same data set as those that follow.
void check_finished_fold(const RunFolder& fold,
                         const DataSet& data,
                         std::size_t index,
                         int threads) {
  const Json record = read_json(fold.training_record());
  if (record.contains("data_record") && record.at("data_record").is_object()) {
    check_same_data(record.at("data_record"), data, static_cast<std::int64_t>(index), threads);
  }
}

}  // namespace

TrainJob winner_job(const fs::path& search_run) {
  const RunFolder folder(search_run);
  const ResultsDb db = open_to_read(folder);
  const RunRecord run = db.run();
  const std::vector<Trial> trials = db.trials();
  const std::string label = delivered_label(trials);
  const auto winner = std::ranges::find_if(trials, [&](const Trial& trial) {
    return trial.purpose == TrialPurpose::Retrain && trial.label == label &&
           trial.status == TrialStatus::Done;
  });
  NAS_CHECK(!label.empty() && winner != trials.end(),
            search_run.string(),
            ": expected a finished search with a delivered model, found none");
  const std::string where = folder.database().string();
  const Json setup = parse_json(run.setup_json, where);
  const JsonReader reader(setup, where);
  TrainJob job;
  job.run_folder = folder.folds();
  job.base.seed = run.seed;
  job.base.device = reader.at("device").text();
  job.base.precision = reader.at("precision").text();
  job.base.threads = static_cast<int>(reader.at("threads").integer(0, 4096));
  job.resume = is_folds_run(job.run_folder);
  if (job.resume) return job;
  job.data = run.data_folder;
  job.how = data_options_from_json(reader);
  job.network = (folder.model() / kOwnNetwork).string();
  const Plan plan = plan_from_json(parse_json(run.plan_json, where), where);
  job.how.planner = plan.planner;
  job.how.orientation = plan.orientation;
  job.steps = winner->steps;
  job.options = winner->settings;
  job.options_name = concat_text(where, ": settings of trial ", winner->id);
  return job;
}

bool is_folds_run(const fs::path& run_folder) {
  return fs::exists(RunFolder(run_folder).folds_record());
}

TrainOutcome train_all_folds(const TrainJob& asked) {
  const RunFolder folder(asked.run_folder);
  TrainJob job = asked;
  std::optional<RunLock> lock;  // before anything is written
  if (asked.resume) {
    NAS_CHECK_KIND(Usage,
                   is_folds_run(folder.path()),
                   folder.folds_record().string(),
                   ": expected the record of a run over folds to go on with, found nothing");
    check_resumed_training(asked);
    lock.emplace(folder);
    job = read_folds_job(folder.folds_record(), asked);
    check_data_is_there(job.data, "voxnas train DATA --resume -o " + folder.text());
  } else {
    check_new_training(job);
    NAS_CHECK_KIND(Usage,
                   !is_folds_run(folder.path()) && !is_training_run(folder.path()),
                   folder.text(),
                   ": holds a run already; go on with --resume or choose another folder");
    lock.emplace(folder);
    job.data = fs::absolute(job.data).lexically_normal();
    if (fs::is_regular_file(job.network)) {
      // The run keeps its own copy: a resumed fold must train the same network.
      write_graph(folder.network().string(), load_network(job.network).graph);
      job.network = kOwnNetwork;
    }
  }
  const DataSet data = open_data_set(job.data);
  check_can_be_split(data);
  const std::size_t folds = data.splits.size();
  NAS_CHECK(folds >= 2,
            job.data.string(),
            ": expected at least two folds in ",
            data.splits_source,
            ", found ",
            folds);
  write_json(folder.folds_record(), folds_json(job));

  TrainOutcome outcome;
  Json rows = Json::array();
  for (std::size_t k = 0; k < folds; ++k) {
    TrainJob one = job;
    one.fold = static_cast<int>(k);
    if (job.network == kOwnNetwork) one.network = folder.network().string();
    one.run_folder = folder.fold(k).path();
    one.budget_seconds = job.budget_seconds / static_cast<double>(folds);
    const fs::path metrics = folder.fold(k).metrics();
    std::vector<CaseMetrics> cases;
    if (fs::exists(metrics)) {  // written last
      check_finished_fold(folder.fold(k), data, k, job.base.threads);
      cases = case_metrics_from_json(read_json(metrics), metrics.string());
      log_info("fold ", k, ": done already");
    } else {
      log_info("fold ", k, " of ", folds);
      one.resume = is_training_run(one.run_folder);
      if (one.resume) {
        one.steps = 0;
        one.budget_seconds = 0;
        one.network.clear();
        one.options.clear();
      }
      TrainOutcome trained = train_network(one);
      if (trained.stopped) return trained;
      cases = std::move(trained.held_out);
    }
    const std::optional<double> mean = mean_metrics(cases).foreground.dice;
    rows.push_back({{"fold", k},
                    {"cases", cases.size()},
                    {"mean_dice", mean ? Json(*mean) : Json(nullptr)},
                    {"model", folder.fold(k).model().string()}});
    outcome.held_out.insert(outcome.held_out.end(), cases.begin(), cases.end());
  }
  Json metrics = metrics_json(outcome.held_out, data.labels.names);
  metrics["folds"] = rows;
  write_json(folder.metrics(), metrics);
  for (const Json& row : rows) {
    log_info("fold ",
             row.at("fold").get<int>(),
             ": mean foreground Dice ",
             dice_of(row, "mean_dice"),
             " over ",
             row.at("cases").get<int>(),
             " held-out cases");
  }
  std::string text;
  for (const Json& label : metrics.at("mean")) {
    text += concat_text(text.empty() ? "" : ", ",
                        label.at("label").get<std::string>(),
                        " ",
                        dice_of(label, "dice"));
  }
  log_info("all ",
           outcome.held_out.size(),
           " cases, each by the fold that held it out: mean foreground Dice ",
           dice_of(metrics.at("foreground_mean"), "dice"),
           " (",
           text,
           ")");
  log_info("ensemble: voxnas predict ", folder.text(), " IN OUT");
  outcome.report = metrics.dump(2);
  return outcome;
}

}  // namespace nas
