// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/search_options.h"

#include <CLI/CLI.hpp>
#include <sstream>

#include "nas/cli/audience_options.h"
#include "nas/cli/command.h"

namespace nas {

void add_workers(CLI::App& app, SearchJobOptions& job) {
  app.add_option("--db",
                 job.database,
                 "Keep the results in this database beside those of other runs, instead of "
                 "RUN/results.sqlite (voxnas runs --db lists them)");
  app.add_option("--workers",
                 job.workers,
                 "Train on several worker processes: one word each, cpu or the number of a "
                 "GPU, with : between them (0:0:1:1, cpu:cpu), or auto");
}

void add_audience_of_search(CLI::App& app, SearchJobOptions& job) {
  add_audience(app, job.audience);
  app.add_option("--from",
                 job.from,
                 "Begin with what this earlier run found: its best genotypes are tried first, and "
                 "gp and tpe learn from its scores if it searched the same space");
  app.add_option("--from-best", job.from_best, "Of --from: how many genotypes are tried first")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1000}))
      ->capture_default_str();
  app.add_option("--keep",
                 job.keep,
                 "Keep the folders of so many best trials whole; of the others settings, log and "
                 "curves stay")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}))
      ->capture_default_str();
}

std::string budget_words(const SearchJobOptions& job, const std::string& typed) {
  std::ostringstream out;
  if (job.budget.has_clock()) {
    out << " --budget " << quoted(typed);
  } else if (job.budget.effort > 0) {
    out << " --effort " << job.budget.effort;
  } else if (job.budget.steps > 0) {
    out << " --steps " << job.budget.steps;
  }
  return out.str();
}

std::string shared_words(const SearchJobOptions& job) {
  const SearchJobOptions plain;
  std::ostringstream out;
  if (job.trials != plain.trials) out << " --trials " << job.trials;
  if (job.how.planner != plain.how.planner) out << " --planner " << job.how.planner;
  if (!job.how.orientation.empty()) out << " --orientation " << job.how.orientation;
  if (job.how.accept_misaligned) out << " --accept-misaligned";
  if (job.device != plain.device) out << " --device " << job.device;
  if (job.precision != plain.precision) out << " --precision " << job.precision;
  if (job.threads != plain.threads) out << " --threads " << job.threads;
  if (!job.executor.empty()) out << " --executor " << quoted(job.executor);
  for (const std::string& handler : job.audience.handlers) out << " --handler " << quoted(handler);
  for (const std::string& url : job.audience.webhooks) out << " --webhook " << quoted(url);
  if (!job.audience.mlflow.empty()) out << " --mlflow " << quoted(job.audience.mlflow);
  if (!job.from.empty()) out << " --from " << quoted(job.from.string());
  if (job.from_best != plain.from_best) out << " --from-best " << job.from_best;
  if (job.keep != plain.keep) out << " --keep " << job.keep;
  if (!job.workers.empty()) out << " --workers " << job.workers;
  if (!job.database.empty()) out << " --db " << quoted(job.database.string());
  return out.str();
}

}  // namespace nas
