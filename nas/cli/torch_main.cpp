// SPDX-License-Identifier: Apache-2.0
// voxnas-torch: the verbs that train or run networks. Users call voxnas, which becomes this program
// when a verb needs it.
#include "nas/cli/program.h"
#include "nas/cli/torch_commands.h"

int main(int argc, char** argv) {
  return nas::run_program(
      argc, argv, {.commands = nas::torch_commands(), .libtorch_version = nas::libtorch_version});
}
