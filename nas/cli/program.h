// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nas/cli/command.h"

namespace nas {

/// One of the two programs behind the command `voxnas`.
struct CommandLine {
  std::vector<Command> commands;  // the verbs that it carries out itself
  /// The version of LibTorch for --version --libtorch; unset in the program that has none.
  std::function<std::string()> libtorch_version;
};

/// Parses the command line and runs the verb. Human text goes to stderr, --json to stdout.
///
/// A verb that needs LibTorch and is not among `commands` is handed to voxnas-torch
/// (become_torch_program): arguments, process id and standard streams stay the same.
/// \returns exit code: 0 done, 1 failed, 2 wrong use
int run_program(int argc, char** argv, const CommandLine& program);

}  // namespace nas
