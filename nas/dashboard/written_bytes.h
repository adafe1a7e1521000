// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "nas/core/files.h"

namespace nas {

/// What `write(file)` writes, from libraries that write into files only: into one of its own in the
/// system's folder for such, which is removed. \throws Error(Io) also where it is larger than
/// `most` bytes.
template <class Write>
std::string written_bytes(const char* name, const char* suffix, std::int64_t most, Write&& write) {
  namespace fs = std::filesystem;
  const fs::path file = temporary_name(fs::temp_directory_path() / name).string() + suffix;
  std::string bytes;
  try {
    write(file);
    bytes = read_file(file, most);
  } catch (...) {
    std::error_code ignored;
    fs::remove(file, ignored);
    throw;
  }
  fs::remove(file);
  return bytes;
}

}  // namespace nas
