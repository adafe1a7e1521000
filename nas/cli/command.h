// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace nas {

/// One verb of `voxnas`. A command file only parses and calls the library.
struct Command {
  std::string name;
  std::string summary;  // one line
  std::string example;  // one runnable line for --help
  /// Declares the options on `app` and returns what runs after parsing; its result is the exit
  /// code.
  std::function<std::function<int()>(CLI::App& app)> setup;
};

// One function per command file; main.cpp holds the table.
Command doctor_command();
Command plan_command();
Command train_command();
Command predict_command();
Command evaluate_command();
Command search_command();
Command report_command();
Command inspect_command();
Command export_command();
Command phantom_command();

}  // namespace nas
