// SPDX-License-Identifier: Apache-2.0
// libFuzzer's entry, compiled once per target with NAS_FUZZ_TARGET naming it. Beside crashes and
// hangs it finds inputs that take more memory at once than the target allows them.
#include <sanitizer/allocator_interface.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "tests/fuzz/targets.h"

namespace {

std::atomic<std::int64_t> live_bytes{0};
std::atomic<std::int64_t> peak_bytes{0};

void count_allocation(const volatile void*, std::size_t size) {
  const std::int64_t live = live_bytes += static_cast<std::int64_t>(size);
  std::int64_t peak = peak_bytes.load();
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
}

void count_release(const volatile void* pointer) {
  if (pointer != nullptr)
    live_bytes -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(pointer));
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  if (__sanitizer_install_malloc_and_free_hooks(count_allocation, count_release) == 0) {
    std::fprintf(stderr, "fuzz: the sanitizer takes no allocation hooks\n");
    std::abort();
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const nas::test::FuzzTarget& target = nas::test::fuzz_target(NAS_FUZZ_TARGET);
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::int64_t before = live_bytes;
  peak_bytes = before;
  target.run(bytes);
  const std::int64_t taken = peak_bytes - before;
  if (const std::int64_t most = target.most_memory(bytes); taken > most) {
    std::fprintf(stderr,
                 "fuzz: %zu bytes of input took %lld bytes of memory, more than %lld\n",
                 size,
                 static_cast<long long>(taken),
                 static_cast<long long>(most));
    std::abort();
  }
  return 0;
}
