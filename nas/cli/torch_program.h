// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

namespace nas {

/// Where voxnas-torch is looked for, in this order: beside the executable `self` (links resolved),
/// and in ../libexec/voxnas of an installed tree.
std::vector<std::filesystem::path> torch_program_places(const std::filesystem::path& self);

/// Sets what OpenMP reads when its library is loaded, each unless the user has set it: waiting
/// threads soon sleep, and there are as many as processor_count().
/// \returns whether anything was not set yet.
bool set_openmp_environment();

/// Replaces this program by voxnas-torch with the same arguments: process id, age and standard
/// streams stay. \throws Error(Io) naming the places that were looked at.
[[noreturn]] void become_torch_program(char** argv);

}  // namespace nas
