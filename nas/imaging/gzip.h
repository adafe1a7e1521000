// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace nas {

/// Bytes that were inflated; not value-initialised, so pages that no data reached are not touched.
struct Inflated {
  std::unique_ptr<std::byte[]> bytes;
  std::uint64_t size = 0;
};

/// Told by content, not by name.
bool is_gzip(std::span<const std::byte> bytes);

/// The first at most `count` inflated bytes; fewer if the data ends or is damaged before.
std::vector<std::byte> inflate_prefix(std::span<const std::byte> packed, std::int64_t count);

/// Inflates a file whose header asks for `need` bytes. The size of the buffer is the one that the
/// file's own trailer states if that agrees with the header and is nothing unusual for the packed
/// size, else the counted one. \throws Error(Input) naming `where` if the data is damaged, shorter,
/// or much longer than that.
Inflated inflate_all(std::span<const std::byte> packed,
                     std::uint64_t need,
                     const std::string& where);

/// One gzip member of `bytes`.
std::string gzip(const std::string& bytes);

}  // namespace nas
