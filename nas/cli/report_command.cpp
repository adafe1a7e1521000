// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/strategies/strategies.h"
#include "nas/report/report.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "experiments/paper_tables/paper_tables.h"
#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/run_folder.h"
#include "nas/report/seeds.h"

namespace nas {

Command report_command() {
  return {
      .name = "report", .setup = [](CLI::App& app) -> std::function<int()> {
        struct Arguments {
          std::string run, output;
          bool markdown = false, json = false, no_pictures = false;
        };
        auto a = std::make_shared<Arguments>();
        app.add_option("RUN", a->run, "Run folder of a search, or of a search with several seeds")
            ->required();
        app.add_option("-o,--output", a->output, "File to write (default: RUN/report.html or .md)");
        app.add_flag("--markdown", a->markdown, "Write Markdown instead of HTML");
        app.add_flag("--json", a->json, "Print the numbers as JSON on stdout; no file is written");
        app.add_flag(
            "--no-pictures", a->no_pictures, "Leave the pictures of cases out of the HTML file");
        return [a] {
          NAS_CHECK_KIND(
              Usage, !(a->markdown && a->json), "report: choose one of --markdown and --json");
          const std::filesystem::path run = a->run;
          const std::vector<std::filesystem::path> seeds = finished_seeds(run);
          if (a->json) {
            const Json data = seeds.empty() ? report_data(run) : seeds_summary(seeds);
            std::cout << data.dump(2) << '\n';
            return 0;
          }
          std::string text;
          if (!seeds.empty()) {
            const Json summary = seeds_summary(seeds);
            text = a->markdown ? seeds_markdown(summary) : seeds_html(summary);
          } else if (a->markdown) {
            text = markdown_report(run, strategy_kinds());
          } else {
            text = html_report(run,
                               {.pictures = !a->no_pictures,
                                .sections = tables_report_section(run),
                                .kinds = strategy_kinds()});
          }
          const std::filesystem::path file = !a->output.empty() ? std::filesystem::path(a->output)
                                             : a->markdown      ? run / "report.md"
                                                                : RunFolder(run).report();
          write_file_atomic(file, text);
          log_info("report ", file.string());
          return 0;
        };
      }};
}

}  // namespace nas
