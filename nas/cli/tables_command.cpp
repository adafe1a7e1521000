// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/paper_tables/paper_tables.h"
#include "nas/cli/command.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/text.h"

namespace nas {
namespace {

struct Options {
  std::vector<std::string> what;
  std::string html;
  bool json = false, markdown = false;
};

int run(const Options& o) {
  std::vector<std::string> names;
  std::vector<std::filesystem::path> runs;
  for (const std::string& word : o.what) {
    if (std::filesystem::is_directory(word)) {
      runs.emplace_back(word);
    } else {
      names.push_back(word);  // paper_tables() refuses what it does not know
    }
  }
  const std::vector<PaperTable> tables = paper_tables(names, runs);
  if (!o.html.empty()) {
    write_file_atomic(o.html, tables_html_page(tables));
    log_info("tables: ", o.html);
    return 0;
  }
  std::cout << (o.json       ? tables_json(tables).dump(2) + "\n"
                : o.markdown ? tables_markdown(tables)
                             : tables_text(tables));
  return 0;
}

}  // namespace

Command tables_command() {
  return {.name = "tables", .setup = [](CLI::App& app) -> std::function<int()> {
            auto o = std::make_shared<Options>();
            app.add_option(
                "WHAT",
                o->what,
                "Names of tables (default: all) and run folders whose results are put in: " +
                    joined(paper_table_names()));
            auto* json = app.add_flag("--json", o->json, "Print the tables as JSON on stdout");
            auto* markdown =
                app.add_flag("--markdown", o->markdown, "Print the tables as Markdown on stdout");
            auto* html = app.add_option(
                "--html", o->html, "Write the tables to this file, a self-contained page");
            json->excludes(markdown)->excludes(html);
            markdown->excludes(html);
            return [o] { return run(*o); };
          }};
}

}  // namespace nas
