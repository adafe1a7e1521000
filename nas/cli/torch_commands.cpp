// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/torch_commands.h"

#include <torch/cuda.h>
#include <torch/version.h>

namespace nas {

std::vector<Command> torch_commands() {
  return {train_command(),
          predict_command(),
          search_command(),
          worker_command(),
          automl_command(),
          export_command(),
          import_command()};
}

std::string libtorch_version() {
  return std::string("LibTorch " TORCH_VERSION ", CUDA ") +
         (torch::cuda::is_available() ? "available" : "not available");
}

}  // namespace nas
