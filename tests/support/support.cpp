// SPDX-License-Identifier: Apache-2.0
#include "tests/support/support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "nas/core/rng.h"

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

pid_t start_child(const std::string& filter, const std::filesystem::path& folder) {
  const std::string argument = "--gtest_filter=" + filter;
  const pid_t child = fork();
  if (child == 0) {
    setenv("VOXNAS_TEST_FOLDER", folder.c_str(), 1);
    execl("/proc/self/exe", "child", argument.c_str(), "--gtest_brief=1", nullptr);
    _exit(127);
  }
  if (child < 0) throw std::runtime_error("fork failed");
  return child;
}

const char* child_folder() { return std::getenv("VOXNAS_TEST_FOLDER"); }

int run_killed_child(const std::string& filter, const std::filesystem::path& folder) {
  const std::filesystem::path checkpoint = folder / "run/checkpoint.pt";
  const auto written = [&] {
    std::error_code none;
    return std::filesystem::last_write_time(checkpoint, none);
  };
  Rng random(filter);
  int kills = 0;
  for (int attempt = 0; attempt < 12 && !std::filesystem::exists(folder / "done.safetensors");
       ++attempt) {
    const auto before = written();
    const pid_t child = start_child(filter, folder);
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (kills < 2 && written() != before) {
        std::this_thread::sleep_for(std::chrono::milliseconds(random.integer(0, 40)));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        kills += WIFSIGNALED(status) ? 1 : 0;
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  return kills;
}

std::string no_oracle(const std::string& relative) {
  return "needs " + relative + " in the folder `shared` beside the checkout (VOXNAS_SHARED)";
}

std::filesystem::path oracle(const std::string& relative) {
  const char* given = std::getenv("VOXNAS_SHARED");
  const std::filesystem::path file =
      (given ? std::filesystem::path(given)
             : std::filesystem::path(NAS_SOURCE_DIR).parent_path() / "shared") /
      relative;
  if (std::filesystem::exists(file)) return file;
  const char* wanted = std::getenv("VOXNAS_ORACLES");
  if (wanted && std::string(wanted) == "required") {
    ADD_FAILURE() << no_oracle(relative) << ": not there, and VOXNAS_ORACLES=required";
  }
  return {};
}

std::filesystem::path test_python() {
  if (const char* given = std::getenv("VOXNAS_PYTHON")) return given;
  const std::filesystem::path python = std::filesystem::path(NAS_CACHE_DIR) / "env/bin/python";
  return std::filesystem::exists(python) ? python : std::filesystem::path{};
}

}  // namespace nas::test
