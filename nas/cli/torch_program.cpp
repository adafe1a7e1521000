// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/torch_program.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

#include "nas/core/error.h"
#include "nas/core/threads.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "voxnas-torch";

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

}  // namespace

std::vector<fs::path> torch_program_places(const fs::path& self) {
  const fs::path folder = self.parent_path();
  return {folder / kName, folder.parent_path() / "libexec" / "voxnas" / kName};
}

bool set_openmp_environment() {
  // By default a thread that waits for the others spins for milliseconds (300,000 turns). Where
  // cores are shared that is the time which the others need: small steps become 40 times slower.
  // 1,000 turns bridge the gap between two operations. Measured against 300,000 on two quiet cores:
  // planned networks 0.99 of the speed, steps of 50 ms 0.90; threads that sleep at once 0.91, 0.60.
  bool changed = false;
  if (!is_set("OMP_WAIT_POLICY") && !is_set("GOMP_SPINCOUNT")) {
    changed = ::setenv("GOMP_SPINCOUNT", "1000", 1) == 0;
  }
  if (!is_set("OMP_NUM_THREADS")) {
    changed |= ::setenv("OMP_NUM_THREADS", std::to_string(processor_count()).c_str(), 1) == 0;
  }
  return changed;
}

void become_torch_program(char** argv) {
  set_openmp_environment();
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  NAS_CHECK_KIND(Io, !error, "/proc/self/exe: cannot be read: ", error.message());
  std::string looked_at;
  for (const fs::path& place : torch_program_places(self)) {
    if (::access(place.c_str(), X_OK) == 0) {
      ::execv(place.c_str(), argv);
      fail(ErrorKind::Io,
           place.string(),
           ": cannot be run: ",
           std::generic_category().message(errno));
    }
    looked_at += (looked_at.empty() ? "" : " or ") + place.string();
  }
  fail(
      ErrorKind::Io,
      looked_at,
      ": expected the program that does the work of this verb (it lies beside voxnas), found none");
}

}  // namespace nas
