// SPDX-License-Identifier: Apache-2.0
#include "training/exchange/export.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "nas/cli/command.h"
#include "nas/core/log.h"

namespace nas {
namespace {

struct ExportArguments {
  std::string model, format, out;
  bool json = false;
};

int run_export(const ExportArguments& arguments) {
  const std::filesystem::path out = export_model(arguments.model, arguments.format, arguments.out);
  log_info(arguments.format, ": ", out.string());
  if (arguments.json) {
    std::cout << Json{{"format", arguments.format}, {"out", out.string()}}.dump(2) << "\n";
  }
  return 0;
}

}  // namespace

Command export_command() {
  return {
      .name = "export", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<ExportArguments>();
        std::string formats;
        for (const ExportFormat& format : export_formats())
          formats += "\n" + format.name + ": " + format.writes;
        app.add_option("MODEL", a->model, "Model folder, as train and search write it")->required();
        app.add_option("--to", a->format, "Form to write:" + formats)->required();
        app.add_option(
            "-o,--out",
            a->out,
            "File or folder to write. Left out: the model's name, in the current folder");
        app.add_flag("--json", a->json, "Also print what was written as JSON on stdout");
        return [a] { return run_export(*a); };
      }};
}

}  // namespace nas
