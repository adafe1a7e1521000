// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/light_commands.h"

namespace nas {

std::vector<Command> light_commands() {
  return {doctor_command(),
          plan_command(),
          evaluate_command(),
          report_command(),
          runs_command(),
          ctl_command(),
          dashboard_command(),
          lead_command(),
          inspect_command(),
          tables_command(),
          phantom_command()};
}

}  // namespace nas
