// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace nas {

/// 128-bit XXH3 of bytes as 32 lower-case hex digits: stable across machines. Not for security.
std::string hash_hex(std::string_view bytes);

/// The same over a whole file, which is memory-mapped. \throws Error(Io).
std::string hash_file(const std::filesystem::path& file);

/// Several pieces, each length-prefixed so that ("ab","c") differs from ("a","bc").
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  Hasher& add(std::string_view bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nas
