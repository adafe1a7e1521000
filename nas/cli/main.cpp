// SPDX-License-Identifier: Apache-2.0
// voxnas: a table of commands. Human text goes to stderr, --json to stdout; exit code 0 done, 1
// failed, 2 wrong use.
#include <exception>
#include <iostream>
#include <new>
#include <vector>

#include <CLI/CLI.hpp>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/threads.h"

int main(int argc, char** argv) {
  const std::vector<nas::Command> commands = {
      nas::doctor_command(),
      nas::plan_command(),
      nas::train_command(),
      nas::predict_command(),
      nas::evaluate_command(),
      nas::search_command(),
      nas::report_command(),
      nas::inspect_command(),
      nas::export_command(),
      nas::phantom_command(),
  };
  CLI::App app{
      "Searches, trains and deploys 3D segmentation networks for your data set and budget.",
      "voxnas"};
  app.require_subcommand(0, 1);  // none is said below, in better words
  app.set_version_flag("--version", std::string("voxnas ") + NAS_VERSION);
  std::function<int()> run;
  for (const nas::Command& command : commands) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->footer("Example:\n  " + command.example);
    auto body = command.setup(*sub);
    sub->final_callback([&run, body] { run = body; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error, std::cout, std::cerr);
    return code == 0 ? 0 : 2;
  }
  if (!run) {
    std::string verbs;
    for (const nas::Command& command : commands)
      verbs += (verbs.empty() ? "" : ", ") + command.name;
    nas::log_line(nas::LogLevel::Error, "expected a verb: " + verbs + "; voxnas --help tells more");
    return 2;
  }
  try {
    nas::install_stop_handler();
    const int code = run();
    NAS_CHECK_KIND(Io, std::cout.flush(), "stdout: could not write the result");
    return code;
  } catch (const nas::Error& error) {
    nas::log_line(nas::LogLevel::Error, error.what());
    return error.kind() == nas::ErrorKind::Usage ? 2 : 1;
  } catch (const std::bad_alloc&) {
    nas::log_line(nas::LogLevel::Error, "out of memory");
    return 1;
  } catch (const std::exception& error) {
    nas::log_line(nas::LogLevel::Error, error.what());
    return 1;
  }
}
