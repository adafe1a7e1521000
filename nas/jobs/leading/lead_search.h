// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nas/core/run_folder.h"
#include "nas/results/results_db.h"
#include "nas/search/run_search.h"

namespace nas {

/// What a process needs to lead a run to its end, beside its record. Borrowed where it is a pointer.
struct LedSearch {
  const SearchSpace* space = nullptr;
  Evaluator* evaluator = nullptr;
  Recipe recipe;
  std::function<double()> clock;
  std::vector<std::unique_ptr<SearchListener>> audience;  // beside those that every run has
  // Worker processes of this one, one for each device; none: see `others`.
  std::vector<std::string> devices;
  int threads = 0;
  std::string executor;                  // program of the user that carries out their trials
  std::function<std::int64_t()> others;  // how many workers somebody else started; empty: this
                                         // process trains
  std::string go_on;                     // command that goes on with a stopped run
};

/// Searches, and delivers. Every run has a log, descriptions of its trials where its space is one,
/// TensorBoard's text and hyper-parameters, and bounded folders; the networks that it begins with
/// and how many folders it keeps stand in its record.
SearchEnd lead_search(LedSearch led, ResultsDb& database, const RunFolder& folder);

inline constexpr std::int64_t kKeptFolders = 30;  // of a stage's trials, where a run says nothing

}  // namespace nas
