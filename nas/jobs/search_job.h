// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/jobs/leading/lead_search.h"
#include "nas/listeners/audience.h"
#include "nas/search/budget.h"
#include "nas/search/limits.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "search_spaces/config_space/description.h"
#include "search_spaces/planned_unet/data_options.h"

namespace nas {

/// What `voxnas search`, or `voxnas automl` with a description, was asked for.
struct SearchJobOptions {
  std::filesystem::path data;        // data set folder
  std::filesystem::path run_folder;  // new
  std::filesystem::path database;    // a file of several runs; empty: RUN/results.sqlite
  std::string workers;    // devices of worker processes (parse_workers); "": this process trains
  std::int64_t fold = 0;  // whose validation cases are held out
  Budget budget;
  std::string recipe = "auto";  // built-in name or file
  /// Searched instead of networks, by a stage of kind `strategy` instead of the recipe. Its steps are
  /// the budget where none is given.
  std::optional<TrainingDescription> description;
  std::string strategy = "random";
  std::string space;             // instead of the recipe's; "": as the recipe says
  std::int64_t trials = 0;       // of the first search stage's first rung; 0: as the recipe says
  Limits limits;                 // each that is set replaces the recipe's
  std::string goal;              // of races: "best", "smallest", "fastest"; "": as the recipe says
  std::optional<double> margin;  // of such a goal (Dice)
  std::string prior = "none";    // runs whose results order the portfolio of races
                                 // (read_prior_runs), or "none"
  std::string compare;           // whether the plan is trained to the end too: "yes", "no", "auto"
  // Programs of the user, as a shell takes them (docs/formats.md, "Plug-ins"); "": none.
  std::string controller;      // decides instead of the first search stage's kind
  std::string executor;        // carries out search trials
  SearchAudience audience;     // hears what happens
  std::filesystem::path from;  // run folder that this one begins from (warm_start.h); empty: none
  std::int64_t from_best = 3;  // how many of its genotypes are tried first
  std::int64_t keep = kKeptFolders;  // trials of a stage whose folders are kept whole
  std::optional<double> stop_at;     // score that is enough: a search stage ends with it
  bool random_control = false;       // add_random_control
  bool search_training = false;      // add_training_search
  std::uint64_t seed = 1;
  DataOptions how;
  std::string device = "auto", precision = "auto";
  int threads = 0;      // 0: all
  std::string command;  // as typed, to repeat it
  std::string code_version;
  bool show_progress = true;
};

/// Check, plan, cache, probe, forecast (logged before work starts), search, retrain the best and
/// the baseline alike, compare, write RUN/model, RUN/baseline, RUN/predictions, RUN/report.html,
/// RUN/results.sqlite. \param spent_seconds of the budget that are gone already, e.g. since the
/// process started. \throws Error(Usage) if the run folder holds a run, or if the budget cannot buy
/// the search or the limits leave no network (nothing stays behind that would block another start).
SearchEnd start_search(const SearchJobOptions& options, double spent_seconds = 0);

/// The recipe with everything that the options change. \throws Error(Usage).
Recipe effective_recipe(const SearchJobOptions& options);

struct SearchResumeOptions {
  std::filesystem::path run_folder;
  std::filesystem::path data = {};  // where the data set lies now; empty: where it lay
  std::string workers = {};         // instead of those of the record
  // As the run was begun with: a record starts no programs by itself.
  std::string controller = {}, executor = {};
  SearchAudience audience = {};
  bool show_progress = true;
};
/// Goes on with a run that was stopped or killed; no finished trial is repeated. \throws
/// Error(Input) if the data set is no longer what the run began with, saying what differs;
/// Error(Usage) while another process works on the run, or if it was begun with programs of the user
/// that are not given again.
SearchEnd resume_search(const SearchResumeOptions& options, double spent_seconds = 0);

}  // namespace nas
