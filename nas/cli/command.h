// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

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

// One function per command file. main.cpp holds those that need no LibTorch, torch_main.cpp the
// others.
Command doctor_command();
Command plan_command();
Command evaluate_command();
Command report_command();
Command inspect_command();
Command tables_command();
Command phantom_command();

Command train_command();
Command predict_command();
Command search_command();
Command export_command();
Command import_command();

}  // namespace nas
