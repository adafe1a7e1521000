// SPDX-License-Identifier: Apache-2.0
#include "tests/support/support.h"

#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

namespace nas::test {

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "voxnas-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + pattern);
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path shared_folder() {
  if (const char* given = std::getenv("VOXNAS_SHARED")) return given;
  const std::filesystem::path beside =
      std::filesystem::path(NAS_SOURCE_DIR).parent_path() / "shared";
  return std::filesystem::exists(beside / "oracles") ? beside : std::filesystem::path{};
}

std::filesystem::path test_python() {
  if (const char* given = std::getenv("VOXNAS_PYTHON")) return given;
  const std::filesystem::path python = std::filesystem::path(NAS_CACHE_DIR) / "env/bin/python";
  return std::filesystem::exists(python) ? python : std::filesystem::path{};
}

}  // namespace nas::test
