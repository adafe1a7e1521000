// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/voxnas.h"

#include <unistd.h>

#include "nas/cli/light_commands.h"
#include "nas/cli/program.h"
#include "nas/cli/torch_commands.h"
#include "nas/cli/torch_program.h"
#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/jobs/strategies/strategies.h"

namespace nas {

int run_program(int argc, char** argv, const Extensions& extensions) {
  // OpenMP reads its settings when it is loaded: once again with them.
  if (set_openmp_environment()) ::execv("/proc/self/exe", argv);
  try {
    for (const OwnOperation& own : extensions.operations) {
      NAS_CHECK_KIND(
          Usage, own.make != nullptr, "operation '", own.row.name, "': expected what it runs");
      add_operation(own.row);
      add_lowering({own.row.name, own.make});
    }
    for (const OwnLoss& own : extensions.losses) add_loss(own);
    for (const StrategyKind& own : extensions.strategies) add_strategy_kind(own);
  } catch (const Error& error) {
    log_line(LogLevel::Error, error.what());
    return error.kind() == ErrorKind::Usage ? 2 : 1;
  }
  CommandLine all{.commands = light_commands(), .libtorch_version = libtorch_version};
  for (Command& command : torch_commands()) all.commands.push_back(std::move(command));
  return run_program(argc, argv, all);
}

}  // namespace nas
