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

}  // namespace nas
