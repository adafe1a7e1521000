// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "search_spaces/planned_unet/data_options.h"

namespace CLI {
class App;
}

namespace nas {

/// How a program carries out one verb of the table (verbs.h). A command file only parses and calls
/// the library.
struct Command {
  std::string name;
  /// Declares the options on `app` and returns what runs after parsing; its result is the exit
  /// code.
  std::function<std::function<int()>(CLI::App& app)> setup;
};

// Options that several verbs have, declared once.

/// --planner, --orientation and --accept-misaligned.
void add_data_options(CLI::App& app, DataOptions& options);
void add_accept_misaligned(CLI::App& app, bool& accept, const std::string& help);
void add_threads(CLI::App& app, int& threads);
/// A word as a shell would need it, for the command that repeats a run.
std::string quoted(const std::string& word);
/// --device and --precision.
void add_device(CLI::App& app, std::string& device, std::string& precision);

/// A resumed run takes everything from its record. \param taken names of the options that go with
/// --resume, as CLI11 calls them ("DATA", "--output"). \throws Error(Usage) naming the others that were given.
void check_resume_options(const CLI::App& app, const std::vector<std::string>& taken);

// One function per command file. light_commands.cpp lists those that need no LibTorch,
// torch_commands.cpp the others.
Command doctor_command();
Command plan_command();
Command evaluate_command();
Command report_command();
Command runs_command();
Command ctl_command();
Command dashboard_command();
Command lead_command();
Command inspect_command();
Command tables_command();
Command phantom_command();

Command train_command();
Command predict_command();
Command search_command();
Command worker_command();
Command automl_command();
Command export_command();
Command import_command();

}  // namespace nas
