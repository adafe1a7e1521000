// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/doctor.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/describe_folder.h"
#include "search_spaces/planned_unet/planner.h"

namespace nas {

Command doctor_command() {
  return {
      .name = "doctor", .setup = [](CLI::App& app) -> std::function<int()> {
        struct Options {
          std::string data;
          bool json = false, accept_misaligned = false, write = false;
          int threads = 0;
        };
        auto o = std::make_shared<Options>();
        app.add_option("DATA",
                       o->data,
                       "Folder of the data set, with a dataset.json (MSD or nnU-Net v2 raw)")
            ->required();
        app.add_flag("--write",
                     o->write,
                     "First write the missing dataset.json of a folder of images and labels: in "
                     "imagesTr and labelsTr, in images and labels, or in one folder per patient");
        add_accept_misaligned(app,
                              o->accept_misaligned,
                              "Only warn where the files of a case disagree about voxel size or "
                              "position");
        add_threads(app, o->threads);
        app.add_flag("--json", o->json, "Print the findings as JSON on stdout");
        return [o] {
          if (o->write) {
            for (const std::string& line : write_dataset_json(o->data, o->threads).words) {
              log_info(line);
            }
            log_info("written: ", (std::filesystem::path(o->data) / "dataset.json").string());
          }
          std::unique_ptr<Progress> bar;
          const auto findings = examine(
              o->data,
              {.accept_misaligned = o->accept_misaligned,
               .progress =
                   [&](std::int64_t done, std::int64_t total) {
                     if (!bar) bar = std::make_unique<Progress>("doctor", total, "cases");
                     bar->set(done);
                   },
               .threads = o->threads,
               .plan = [](const DataSet& data,
                          const Fingerprint& sizes) { make_plan(sizes, planner_facts(data)); }});
          bar.reset();
          if (o->json) std::cout << to_json(findings).dump(2) << "\n";
          const auto count = [&](Severity s) {
            return std::count_if(findings.begin(), findings.end(), [s](const Finding& f) {
              return f.severity == s;
            });
          };
          if (!o->json) {
            for (const Finding& finding : findings) std::cerr << to_text(finding) << "\n";
          }
          const bool opened =
              std::ranges::none_of(findings, [](const Finding& f) { return f.check == "dataset"; });
          if (opened) log_info(o->data, ": ", to_text(open_data_set(o->data).labels));
          log_info(o->data,
                   ": ",
                   count(Severity::Fatal),
                   " fatal, ",
                   count(Severity::Warning),
                   " warnings, ",
                   count(Severity::Note),
                   " notes");
          return any_fatal(findings) ? 1 : 0;
        };
      }};
}

}  // namespace nas
