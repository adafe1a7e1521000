// SPDX-License-Identifier: Apache-2.0
#include "nas/core/threads.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "nas/core/cgroup.h"
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

void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& body, int threads) {
  if (count <= 0) return;
  const std::int64_t wanted =
      std::min<std::int64_t>(count, threads > 0 ? threads : processor_count());
  if (wanted == 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr first_error;
  const auto work = [&]() {
    try {
      for (std::int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) body(i);
    } catch (...) {
      next.store(count);  // the others stop after their current element
      const std::lock_guard lock(mutex);
      if (!first_error) first_error = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> helpers;
    helpers.reserve(static_cast<std::size_t>(wanted - 1));
    try {
      for (std::int64_t t = 1; t < wanted; ++t) helpers.emplace_back(work);
    } catch (const std::system_error&) {  // no more threads to be had: go on with those there are
    }
    work();
  }
  if (first_error) std::rethrow_exception(first_error);
}

int processor_count() {
  static const int count = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    int allowed = ::sched_getaffinity(0, sizeof(set), &set) == 0
                      ? CPU_COUNT(&set)
                      : static_cast<int>(std::thread::hardware_concurrency());
    // Half a processor is one thread; one and a half are two.
    if (const double share = cgroup_limits().processors; share > 0 && share < allowed) {
      allowed = static_cast<int>(std::ceil(share));
    }
    return std::max(1, allowed);
  }();
  return count;
}

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
