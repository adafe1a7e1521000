// SPDX-License-Identifier: Apache-2.0
// voxnas: the verbs that need no LibTorch, and the way to voxnas-torch for the others, so that
// --help, doctor or plan start at once.
#include "nas/cli/light_commands.h"
#include "nas/cli/program.h"

int main(int argc, char** argv) {
  return nas::run_program(argc, argv, {.commands = nas::light_commands(), .libtorch_version = {}});
}
