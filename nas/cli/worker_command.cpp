// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <memory>

#include "nas/cli/command.h"
#include "nas/core/progress.h"
#include "nas/core/quantity.h"
#include "nas/jobs/worker_job.h"

namespace nas {

Command worker_command() {
  return {.name = "worker", .setup = [](CLI::App& app) -> std::function<int()> {
            struct Arguments {
              WorkerJob job;
              std::string run, data, idle;
            };
            auto a = std::make_shared<Arguments>();
            app.add_option("--run", a->run, "Run folder of a search that is going on")->required();
            app.add_option("--name",
                           a->job.name,
                           "What the worker is called in the run (default: host and process)");
            app.add_option("--device", a->job.device, "cpu or cuda:N (default: as the run)");
            app.add_option("--threads",
                           a->job.threads,
                           "Threads of the training, 0 for all cores (default: as the run)")
                ->check(CLI::Range(0, 4096));
            app.add_option("--data", a->data, "Where the data set lies now (default: as the run)");
            app.add_option("--max-trials", a->job.max_trials, "End after so many trials")
                ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
            app.add_option("--idle-exit",
                           a->idle,
                           "Wait for work, also while nobody leads the run, and end after so long "
                           "without any: 60s, 10m");
            app.add_option(
                "--executor",
                a->job.executor,
                "The program that carries out search trials, as the search was begun with");
            app.add_option("--with-parent", a->job.parent, "End when this process ends")
                ->group("");  // the leader's own workers
            return [a] {
              a->job.run_folder = a->run;
              a->job.data = a->data;
              a->job.code_version = NAS_VERSION;
              if (!a->idle.empty()) a->job.idle_seconds = parse_duration(a->idle);
              run_worker(a->job);
              return 0;
            };
          }};
}

}  // namespace nas
