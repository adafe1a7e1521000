// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/progress.h"
#include "nas/core/quantity.h"
#include "nas/report/text.h"
#include "nas/results/run_list.h"

namespace nas {
namespace {

/// Every run of the databases below the folders.
std::vector<ListedRun> find_runs(const std::vector<std::string>& folders,
                                 const std::string& database) {
  if (!database.empty()) return runs_of_database(database);
  std::vector<ListedRun> rows;
  for (const std::string& folder : folders) {
    for (ListedRun& run : runs_below(folder)) rows.push_back(std::move(run));
  }
  return rows;
}

std::string date_of(std::int64_t unix_seconds) {
  char text[32] = "";
  const std::time_t time = unix_seconds;
  std::tm local{};
  if (unix_seconds > 0 && localtime_r(&time, &local) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local);
  }
  return text;
}

Json json_of(const ListedRun& row) {
  const RunEntry& e = row.entry;
  return {{"id", e.id},
          {"database", row.file.string()},
          {"folder", row.folder},
          {"state", e.state},
          {"data", row.data},
          {"fold", e.run.fold},
          {"recipe", row.recipe},
          {"budget", to_text(e.run.budget)},
          {"seed", e.run.seed},
          {"trials", e.trials},
          {"done", e.done},
          {"score", e.best ? Json(*e.best) : Json(nullptr)},
          {"network", e.best_text},
          {"parameters", e.parameters},
          {"macs", e.macs},
          {"clock", e.clock},
          {"host", e.run.host},
          {"code_version", e.run.code_version},
          {"created_unix", e.run.created_unix},
          {"command", e.run.command}};
}

}  // namespace

Command runs_command() {
  return {
      .name = "runs", .setup = [](CLI::App& app) -> std::function<int()> {
        struct Arguments {
          std::vector<std::string> folders;
          std::string database, data, recipe, state;
          bool json = false, by_score = false;
        };
        auto a = std::make_shared<Arguments>();
        app.add_option("FOLDER", a->folders, "Look for runs in these folders (default: here)");
        app.add_option("--db", a->database, "List the runs of this results database instead");
        app.add_option("--data", a->data, "Only runs on data sets whose name holds this");
        app.add_option("--recipe", a->recipe, "Only runs of this recipe");
        app.add_option("--state", a->state, "Only runs that are running, stopped, failed or done")
            ->check(CLI::IsMember({"running", "stopping", "stopped", "failed", "done"}));
        app.add_flag("--best", a->by_score, "The best first, instead of the first that was begun");
        app.add_flag("--json", a->json, "Print as JSON");
        return [a] {
          NAS_CHECK_KIND(Usage,
                         a->database.empty() || a->folders.empty(),
                         "runs: choose one of FOLDER and --db");
          if (a->folders.empty()) a->folders = {"."};
          std::vector<ListedRun> rows = find_runs(a->folders, a->database);
          std::erase_if(rows, [&](const ListedRun& row) {
            return (!a->data.empty() && row.data.find(a->data) == std::string::npos) ||
                   (!a->recipe.empty() && row.recipe != a->recipe) ||
                   (!a->state.empty() && row.entry.state != a->state);
          });
          if (a->by_score) {
            std::ranges::stable_sort(rows, [](const ListedRun& x, const ListedRun& y) {
              return x.entry.best.value_or(-1) > y.entry.best.value_or(-1);
            });
          }
          if (a->json) {
            Json all = Json::array();
            for (const ListedRun& row : rows) all.push_back(json_of(row));
            std::cout << all.dump(2) << '\n';
            return 0;
          }
          Table table;
          table.head = {"run",
                        "state",
                        "data set",
                        "fold",
                        "recipe",
                        "budget",
                        "seed",
                        "trials",
                        "score",
                        "parameters",
                        "begun"};
          table.columns = "lllrllrrrrl";
          for (const ListedRun& row : rows) {
            const RunEntry& e = row.entry;
            char score[32] = "-";
            if (e.best) std::snprintf(score, sizeof score, "%.4f", *e.best);
            table.rows.push_back(
                {a->database.empty() ? row.folder : std::to_string(e.id),
                 e.state.empty() ? "-" : e.state,
                 row.data,
                 std::to_string(e.run.fold),
                 row.recipe,
                 to_text(e.run.budget),
                 std::to_string(e.run.seed),
                 concat_text(e.done, "/", e.trials),
                 score,
                 e.parameters > 0 ? format_count(static_cast<double>(e.parameters)) : "-",
                 date_of(e.run.created_unix)});
          }
          std::cout << text_table(table);
          if (rows.empty()) std::cout << "no runs\n";
          return 0;
        };
      }};
}

}  // namespace nas
