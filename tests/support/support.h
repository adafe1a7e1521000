// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "nas/core/error.h"

namespace nas::test {

/// A folder of its own, removed at the end of the test.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// The message of the Error that `body` throws, "" if it throws none.
/// \param kind set to the error's kind, unless null.
template <class Body>
std::string error_of(Body&& body, ErrorKind* kind = nullptr) {
  try {
    body();
  } catch (const Error& error) {
    if (kind) *kind = error.kind();
    return error.what();
  }
  return "";
}

/// Starts the test `filter` of this executable as a process of its own (not a fork: LibTorch's
/// threads do not survive one), which finds `folder` in child_folder().
pid_t start_child(const std::string& filter, const std::filesystem::path& folder);
/// Null where the process is no such child.
const char* child_folder();

/// Starts such a child until it has written folder/done.safetensors; kills it (-9) at most twice, a
/// random moment after it has written folder/run/checkpoint.pt.
/// \returns how often it was killed
int run_killed_child(const std::string& filter, const std::filesystem::path& folder);

/// The file or folder `relative` (oracles/..., data/..., facts/...) in the folder `shared` beside the
/// checkout, or in VOXNAS_SHARED; empty if it is not there. With VOXNAS_ORACLES=required the running
/// test then fails.
std::filesystem::path oracle(const std::string& relative);
/// Why a test without `relative` is skipped.
std::string no_oracle(const std::string& relative);

/// The Python with the packages of scripts/requirements-test.txt (VOXNAS_PYTHON overrides); empty
/// if there is none.
std::filesystem::path test_python();

}  // namespace nas::test

/// Skips the test with a message unless the Python of scripts/setup.sh is there; else defines
/// `variable` as its path.
#define NAS_PYTHON_OR_SKIP(variable)                                 \
  const std::filesystem::path variable = ::nas::test::test_python(); \
  if (variable.empty()) GTEST_SKIP() << "needs the Python environment of scripts/setup.sh"

/// Skips the test with a message unless oracle(relative) is there; else defines `variable` as its
/// path.
#define NAS_SHARED_OR_SKIP(variable, relative)                          \
  const std::filesystem::path variable = ::nas::test::oracle(relative); \
  if (variable.empty()) GTEST_SKIP() << ::nas::test::no_oracle(relative)
