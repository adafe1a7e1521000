// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace nas::test {

/// A reader of files that others make. libFuzzer and the mutation test drive the same functions.
struct FuzzTarget {
  std::string name;
  /// Reads the bytes as a file's content and uses what came out. Error(Input|Io|Usage|Shape) is a
  /// proper end; anything else (a crash, another exception, an Internal error, a wrong result) is a
  /// bug.
  void (*run)(std::span<const std::byte> bytes);
  /// The most memory that reading these bytes may hold at once, in bytes: twice what an honest file
  /// of their size holds once it is read, and buffers of fixed size. A claim that is believed goes
  /// far beyond.
  std::int64_t (*most_memory)(std::span<const std::byte> bytes);
  /// Small valid files to start from.
  std::vector<std::string> (*seeds)();
};

const std::vector<FuzzTarget>& fuzz_targets();
const FuzzTarget& fuzz_target(const std::string& name);  // \throws std::out_of_range

}  // namespace nas::test
