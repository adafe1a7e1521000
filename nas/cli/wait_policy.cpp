// SPDX-License-Identifier: Apache-2.0
// Threads of OpenMP that wait for the next parallel loop go to sleep instead of spinning. Where
// other programs want the same processors, a spinning thread takes the time of the one it waits
// for, and a training step takes many times longer. libgomp reads its environment when it is
// loaded, before main(): so the program starts itself once more with GOMP_SPINCOUNT set, from
// .preinit_array, which runs before any library has initialised itself (milliseconds; from main it
// would be half a second). OMP_WAIT_POLICY or GOMP_SPINCOUNT in the environment overrule this.
#include <unistd.h>

#include <cstring>

namespace {

// No library is initialised here: system calls and memory of our own, nothing else.
void sleep_instead_of_spinning(int, char** arguments, char** environment) {
  constexpr int kMost = 4096;
  static char setting[] = "GOMP_SPINCOUNT=1000";  // about 10 us
  static char* changed[kMost + 2];
  static char program[4096];
  int count = 0;
  for (; environment[count] != nullptr; ++count) {
    if (count == kMost || std::strncmp(environment[count], "OMP_WAIT_POLICY=", 16) == 0 ||
        std::strncmp(environment[count], "GOMP_SPINCOUNT=", 15) == 0) {
      return;
    }
    changed[count] = environment[count];
  }
  changed[count] = setting;
  const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length > 0) execve(program, arguments, changed);  // on failure: goes on and spins
}

using Initialiser = void (*)(int, char**, char**);
[[gnu::section(".preinit_array"), gnu::used]] Initialiser before_libraries =
    sleep_instead_of_spinning;

}  // namespace
