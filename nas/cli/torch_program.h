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

/// The LibTorch folder (with lib/) that a distribution of `make dist` uses, in this order: the one
/// that VOXNAS_LIBTORCH names, libtorch beside bin, the torch package of `python3`. A distribution
/// is told by the file libtorch-version beside `program`, which holds the version it was built with.
/// \returns empty where there is no such file: a built program knows its LibTorch.
/// \throws Error(Usage) naming the places and what was found, where none has that version.
std::filesystem::path distributed_libtorch(const std::filesystem::path& program);

/// Replaces this program by voxnas-torch with the same arguments: process id, age and standard
/// streams stay. \throws Error(Io) naming the places that were looked at.
[[noreturn]] void become_torch_program(char** argv);

}  // namespace nas
