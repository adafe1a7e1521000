// SPDX-License-Identifier: Apache-2.0
#include "nas/core/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "nas/core/cgroup.h"

namespace nas {

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

}  // namespace nas
