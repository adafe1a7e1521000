// SPDX-License-Identifier: Apache-2.0
// voxnas: the verbs that need no LibTorch, and the way to voxnas-torch for the others, so that
// --help, doctor or plan start at once.
#include "nas/cli/program.h"

int main(int argc, char** argv) {
  return nas::run_program(argc,
                          argv,
                          {.commands = {nas::doctor_command(),
                                        nas::plan_command(),
                                        nas::evaluate_command(),
                                        nas::report_command(),
                                        nas::runs_command(),
                                        nas::ctl_command(),
                                        nas::lead_command(),
                                        nas::inspect_command(),
                                        nas::tables_command(),
                                        nas::phantom_command()},
                           .libtorch_version = {}});
}
