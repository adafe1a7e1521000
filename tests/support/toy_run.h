// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nas/results/results_db.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "tests/support/toy_search.h"

namespace nas::test {

/// A whole search over the toy space in a folder, begun there or gone on with, on a clock that stands
/// still.
struct ToyRun {
  std::filesystem::path folder;
  Recipe recipe;
  std::vector<SearchListener*> listeners = {};
  std::vector<std::string> before = {};  // enqueued before the run begins
  std::function<std::int64_t()> workers = {};
  Budget budget{.steps = 100};
  ToySpace space = {};
  FakeEvaluator evaluator = {};
  Evaluator* instead = nullptr;  // of `evaluator`

  std::filesystem::path file() const { return folder / "results.sqlite"; }
  ResultsDb open() const { return ResultsDb::open(file()); }
  SearchEnd run() {
    const bool there = std::filesystem::exists(file());
    ResultsDb db = there ? open() : ResultsDb::create(file(), small_record(budget, 7));
    if (!there) db.enqueue(before, kAskedByUser);
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = instead == nullptr ? &evaluator : instead;
    setup.recipe = recipe;
    setup.budget = budget;
    setup.seed = 7;
    setup.clock = [] { return 0.0; };
    setup.should_stop = [this] { return evaluator.stop_after == 0; };
    setup.folder = folder;
    setup.workers = workers;
    setup.listeners = listeners;
    return run_search(setup);
  }
};

}  // namespace nas::test
