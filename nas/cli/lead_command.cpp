// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "nas/cli/audience_options.h"
#include "nas/cli/command.h"
#include "nas/jobs/leading/lead_job.h"

namespace nas {

Command lead_command() {
  return {.name = "lead", .setup = [](CLI::App& app) -> std::function<int()> {
            struct Arguments {
              std::string run, workers;
              SearchAudience audience;
            };
            auto a = std::make_shared<Arguments>();
            app.add_option("RUN", a->run, "Run folder of a search that nobody leads any more")
                ->required();
            app.add_option("--workers",
                           a->workers,
                           "Worker processes to start: one word each, cpu or the number of a GPU, "
                           "with : between them (0:0:1:1, cpu:cpu), or auto (default: as the run; "
                           "if it has none, start some with `voxnas worker --run RUN`)");
            add_audience(app, a->audience);
            return [a] {
              const SearchEnd end = lead_run({.run_folder = a->run,
                                              .workers = a->workers,
                                              .code_version = NAS_VERSION,
                                              .audience = a->audience});
              return end == SearchEnd::Stopped ? 1 : 0;
            };
          }};
}

}  // namespace nas
