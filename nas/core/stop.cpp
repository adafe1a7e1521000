// SPDX-License-Identifier: Apache-2.0
#include "nas/core/stop.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <system_error>

#include "nas/core/error.h"

namespace nas {
namespace {

std::atomic<bool> stop_flag{false};
std::atomic<bool> signalled{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // a signal handler touches them

extern "C" void on_stop_signal(int number) {
  if (signalled.exchange(true)) ::_exit(128 + number);
  stop_flag.store(true);
}

}  // namespace

void install_stop_handler() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGINT, SIGTERM}) {
    NAS_CHECK_KIND(Internal,
                   ::sigaction(number, &action, nullptr) == 0,
                   "cannot install the handler of signal ",
                   number,
                   ": ",
                   std::generic_category().message(errno));
  }
}

bool stop_requested() { return stop_flag.load(); }

void request_stop(bool value) {
  stop_flag.store(value);
  if (!value) signalled.store(false);
}

}  // namespace nas
