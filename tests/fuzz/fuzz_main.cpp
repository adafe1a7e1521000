// SPDX-License-Identifier: Apache-2.0
// libFuzzer's entry, compiled once per target with NAS_FUZZ_TARGET naming it.
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const nas::test::FuzzTarget& target = nas::test::fuzz_target(NAS_FUZZ_TARGET);
  target.run(std::as_bytes(std::span(data, size)));
  return 0;
}
