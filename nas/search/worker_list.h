// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace nas {

/// Devices of workers as users write them: ":" between workers, each "cpu" or the number of a GPU
/// ("0:0:1:1", "cpu:cpu"); "auto" is one for each GPU, else one on the processor. Two may share a
/// GPU. (Clara's "," for several GPUs of one worker is refused: a trial trains on one device.)
/// \param gpus that this machine has.
/// \returns "cpu" or "cuda:N", one for each worker. \throws Error(Usage) that names the place and
/// what exists.
std::vector<std::string> parse_workers(const std::string& text, int gpus);

/// What LibTorch's allocator is told of a worker on `device` (PYTORCH_CUDA_ALLOC_CONF): workers that
/// share a GPU get an equal part of its memory each, so that one that wants too much runs out itself
/// and not its neighbour. \param given what it is told already; a fraction in it stays. \returns
/// `given` where nothing is shared.
std::string allocator_setting(const std::vector<std::string>& devices,
                              const std::string& device,
                              const std::string& given);

}  // namespace nas
