// SPDX-License-Identifier: Apache-2.0
// voxnas-torch: the verbs that train or run networks. Users call voxnas, which becomes this program
// when a verb needs it.
#include <torch/cuda.h>
#include <torch/version.h>

#include "nas/cli/program.h"

int main(int argc, char** argv) {
  return nas::run_program(argc,
                          argv,
                          {.commands = {nas::train_command(),
                                        nas::predict_command(),
                                        nas::search_command(),
                                        nas::worker_command(),
                                        nas::automl_command(),
                                        nas::export_command(),
                                        nas::import_command()},
                           .libtorch_version = [] {
                             return std::string("LibTorch " TORCH_VERSION ", CUDA ") +
                                    (torch::cuda::is_available() ? "available" : "not available");
                           }});
}
