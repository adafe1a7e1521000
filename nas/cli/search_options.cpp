// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/search_options.h"

#include <CLI/CLI.hpp>
#include <sstream>

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
  for (const std::string& handler : job.handlers) out << " --handler " << quoted(handler);
  if (!job.workers.empty()) out << " --workers " << job.workers;
  if (!job.database.empty()) out << " --db " << quoted(job.database.string());
  return out.str();
}

}  // namespace nas
