// SPDX-License-Identifier: Apache-2.0
// One binary per task of the decathlon: a recipe and what is known of the task, around `voxnas
// search` and `voxnas train`. Torch-free: the work itself is done by the voxnas beside it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "experiments/dry_run.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/core/run_folder.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/planner_kinds.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string data_root, budget, run, network, recipe, device = "h100", planner = "default";
  int fold = 0;
  bool weights = false, dry = false, json = false, readme = false, resume = false;
  std::vector<std::string> more;
};

/// voxnas of the same build, two folders above this executable; VOXNAS names another.
fs::path voxnas_program() {
  if (const char* named = std::getenv("VOXNAS"); named != nullptr && *named != 0) return named;
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path program = here.parent_path().parent_path() / "voxnas";
  NAS_CHECK_KIND(Usage,
                 fs::exists(program),
                 program.string(),
                 ": expected the program that does the work; build it (cmake --build build/release "
                 "--target voxnas) or name it in VOXNAS");
  return program;
}

int tell(const Experiment& e, const Arguments& a) {
  DryRunOptions options{.device = a.device, .planner = a.planner};
  if (!a.budget.empty()) options.budget_seconds = parse_duration(a.budget);
  if (!a.recipe.empty()) options.recipe = a.recipe;
  if (!a.network.empty() && a.network != "c2fnas-panc") {
    const NetworkFileOptions task{
        .channels = static_cast<std::int64_t>(e.facts.channel_names.size()),
        .classes = e.facts.classes,
        .adapt = true};
    options.networks.emplace_back(a.network, load_network(a.network, task).graph);
  }
  const DryRun run = dry_run(e, options);
  std::cout << (a.json ? to_json(run).dump(2) + "\n" : to_text(run));
  return 0;
}

int run(const Experiment& e, const Arguments& a) {
  if (a.readme) {
    std::cout << experiment_readme(e);
    return 0;
  }
  if (a.dry) return tell(e, a);
  NAS_CHECK_KIND(Usage, !a.run.empty(), "expected -o RUN (or --dry-run)");
  std::vector<std::string> words;
  auto add = [&](std::initializer_list<std::string> more) {
    words.insert(words.end(), more.begin(), more.end());
  };
  if (a.resume) {
    if (fs::exists(RunFolder(a.run).training_record())) {
      add({"train", "--resume", "-o", a.run});
    } else {
      add({"search", "--resume", a.run});
    }
  } else {
    NAS_CHECK_KIND(Usage,
                   !a.data_root.empty() && !a.budget.empty(),
                   "expected DATA_ROOT and --budget TIME (or --dry-run)");
    const fs::path data = fs::path(a.data_root) / e.dataset;
    NAS_CHECK(fs::exists(data / "dataset.json"),
              data.string(),
              ": expected the folder of ",
              e.dataset,
              " with dataset.json; get it from medicaldecathlon.com");
    if (!a.network.empty()) {
      add({"train", data.string(), "--network", a.network});
      if (a.weights) add({"--weights"});
    } else {
      std::string recipe = a.recipe;
      if (recipe.empty()) {
        recipe = RunFolder(a.run).recipe().string();
        NAS_CHECK_KIND(Usage,
                       !fs::exists(RunFolder(a.run).database()),
                       a.run,
                       ": holds a run already; go on with --resume or choose another folder");
        write_file_atomic(recipe, e.recipe);
      }
      add({"search", data.string(), "--recipe", recipe});
    }
    add({"--fold",
         std::to_string(a.fold),
         "--budget",
         a.budget,
         "--planner",
         a.planner,
         "-o",
         a.run});
  }
  if (a.json) add({"--json"});
  words.insert(words.begin(), voxnas_program().string());
  words.insert(words.end(), a.more.begin(), a.more.end());
  std::string shown;
  std::vector<char*> list;
  for (std::string& word : words) {
    shown += (shown.empty() ? "" : " ") + word;
    list.push_back(word.data());
  }
  list.push_back(nullptr);
  log_info(shown);
  execv(list[0], list.data());
  fail(ErrorKind::Io, words[0], ": cannot be run: ", std::strerror(errno));
}

}  // namespace
}  // namespace nas

int main(int argc, char** argv) {
  const std::string program = std::filesystem::path(argv[0]).filename().string();
  const std::string prefix = "experiment_";
  nas::Arguments a;
  int own = 0;  // arguments before "--"
  while (own < argc && std::strcmp(argv[own], "--") != 0) ++own;
  for (int i = own + 1; i < argc; ++i) a.more.emplace_back(argv[i]);
  CLI::App app{"One experiment on a task of the Medical Segmentation Decathlon.", program};
  app.add_option("DATA_ROOT", a.data_root, "Folder that holds the task's folder");
  app.add_option("--budget", a.budget, "Time for everything: 90s, 20m, 2h, 1d");
  app.add_option("-o,--output", a.run, "Run folder to write");
  app.add_flag("--resume", a.resume, "Go on with the run in -o RUN");
  app.add_option("--fold", a.fold, "Fold whose validation cases are held out")
      ->check(CLI::Range(0, 4))
      ->capture_default_str();
  auto* network =
      app.add_option("--network",
                     a.network,
                     "Train this network (a model folder, graph file or name) instead of "
                     "searching; input channels and classes are adapted");
  app.add_flag("--weights", a.weights, "Start from its weights where shapes agree")->needs(network);
  app.add_option("--recipe", a.recipe, "Another recipe: built-in name or file")->excludes(network);
  app.add_option("--planner", a.planner, "default, resenc-m or resenc-l")
      ->check(CLI::IsMember(nas::planner_names()))
      ->capture_default_str();
  app.add_flag("--dry-run", a.dry, "Plan, networks and forecast; needs no data");
  app.add_option("--gpu", a.device, "Of the forecast")
      ->check(CLI::IsMember(nas::device_names()))
      ->capture_default_str();
  app.add_flag("--json", a.json, "Result as JSON on stdout");
  app.add_flag("--readme", a.readme, "Print README.md of the experiment's folder");
  app.footer("Arguments after -- go to voxnas as they are.");
  try {
    app.parse(own, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? 0 : 2;
  }
  try {
    NAS_CHECK_KIND(Usage,
                   program.starts_with(prefix),
                   program,
                   ": expected a program name experiment_taskNN_name, which says what to run");
    return nas::run(nas::load_experiment(program.substr(prefix.size())), a);
  } catch (const nas::Error& error) {
    nas::log_line(nas::LogLevel::Error, error.what());
    return error.kind() == nas::ErrorKind::Usage ? 2 : 1;
  } catch (const std::exception& error) {
    nas::log_line(nas::LogLevel::Error, error.what());
    return 1;
  }
}
