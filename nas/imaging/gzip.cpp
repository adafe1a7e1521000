// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/gzip.h"

#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::uint64_t kMaxExpansion = 1032;  // of deflate: 258 bytes from two bits
constexpr std::uint64_t kUsualExpansion = 64;  // beyond it a file is counted before it is believed
constexpr std::uint64_t kSlack = 1 << 20;      // bytes after the voxels that we put up with

/// Streams gzip members through `sink(piece)` until it returns false or the members end. What
/// follows the last member (padding) is ignored, as gzip does. Damaged data ends the stream,
/// then the result is false.
template <class Sink>
bool stream_gzip(std::span<const std::byte> packed,
                 std::span<std::byte> scratch,
                 const Sink& sink) {
  z_stream stream{};
  NAS_CHECK_KIND(
      Internal, inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "zlib: inflateInit2 failed");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&stream, inflateEnd);
  constexpr std::size_t kPiece = std::size_t{1} << 30;  // zlib counts in 32 bits
  std::size_t fed = 0;
  while (true) {
    if (stream.avail_in == 0) {
      if (fed == packed.size()) return false;
      const std::size_t piece = std::min(kPiece, packed.size() - fed);
      stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data() + fed));
      stream.avail_in = static_cast<uInt>(piece);
      fed += piece;
    }
    stream.next_out = reinterpret_cast<Bytef*>(scratch.data());
    stream.avail_out = static_cast<uInt>(scratch.size());
    const int result = inflate(&stream, Z_NO_FLUSH);
    const std::size_t got = scratch.size() - stream.avail_out;
    if (got > 0 && !sink(std::span<const std::byte>(scratch.data(), got))) return true;
    if (result == Z_STREAM_END) {
      const std::size_t at = fed - stream.avail_in;
      if (!is_gzip(packed.subspan(at))) return true;
      if (inflateReset(&stream) != Z_OK) return false;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return false;
    }
  }
}

/// Bytes that the members inflate to, counting no further than just beyond `limit`; nothing if
/// damaged.
std::optional<std::uint64_t> count_inflated(std::span<const std::byte> packed,
                                            std::uint64_t limit) {
  const auto scratch = std::make_unique_for_overwrite<std::byte[]>(256 << 10);
  std::uint64_t total = 0;
  const bool whole =
      stream_gzip(packed, {scratch.get(), 256 << 10}, [&](std::span<const std::byte> piece) {
        total += piece.size();
        return total <= limit;
      });
  return whole ? std::optional(total) : std::nullopt;
}

/// Inflates all members into a buffer of exactly `capacity` bytes at most.
libdeflate_result inflate_members(std::span<const std::byte> packed,
                                  std::uint64_t capacity,
                                  Inflated& out) {
  const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  NAS_CHECK_KIND(Internal, decompressor != nullptr, "libdeflate: no decompressor");
  // Not value-initialised: pages that the data does not reach are never touched.
  out.bytes = std::make_unique_for_overwrite<std::byte[]>(capacity);
  out.size = 0;
  while (is_gzip(packed)) {
    std::size_t consumed = 0, produced = 0;
    const auto result = libdeflate_gzip_decompress_ex(decompressor.get(),
                                                      packed.data(),
                                                      packed.size(),
                                                      out.bytes.get() + out.size,
                                                      capacity - out.size,
                                                      &consumed,
                                                      &produced);
    if (result != LIBDEFLATE_SUCCESS) return result;
    out.size += produced;
    packed = packed.subspan(consumed);
  }
  return LIBDEFLATE_SUCCESS;
}

}  // namespace

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

std::vector<std::byte> inflate_prefix(std::span<const std::byte> packed, std::int64_t count) {
  std::vector<std::byte> out;
  std::array<std::byte, 1024> scratch;
  stream_gzip(packed, scratch, [&](std::span<const std::byte> piece) {
    const auto room = static_cast<std::size_t>(count) - out.size();
    out.insert(out.end(),
               piece.begin(),
               piece.begin() + static_cast<std::ptrdiff_t>(std::min(room, piece.size())));
    return out.size() < static_cast<std::size_t>(count);
  });
  return out;
}

Inflated inflate_all(std::span<const std::byte> packed,
                     std::uint64_t need,
                     const std::string& where) {
  NAS_CHECK(
      need / kMaxExpansion <= packed.size() + 64,
      where,
      ": expected ",
      need,
      " bytes of header and voxels, but the ",
      packed.size(),
      " compressed bytes cannot hold that many: the header is wrong or the file is truncated");
  std::uint32_t stated = 0;  // inflated size of the last member modulo 2^32
  if (packed.size() >= 4) std::memcpy(&stated, packed.data() + packed.size() - 4, 4);
  const std::uint64_t candidate = need + (stated - static_cast<std::uint32_t>(need));
  const auto damaged = [&] {
    return concat_text(where,
                       ": expected gzip data of ",
                       need,
                       " bytes of header and voxels, found ",
                       packed.size(),
                       " compressed bytes that are damaged or truncated");
  };
  Inflated out;
  if (candidate - need <= kSlack && candidate <= kUsualExpansion * packed.size() + kSlack) {
    const auto result = inflate_members(packed, candidate, out);
    if (result == LIBDEFLATE_SUCCESS && out.size >= need) return out;
    NAS_CHECK(result != LIBDEFLATE_BAD_DATA, damaged());
  }
  // Several members, padding at the end, a nearly empty image, or a lie.
  const auto counted = count_inflated(packed, need + kSlack);
  NAS_CHECK(counted, damaged());
  NAS_CHECK(*counted >= need,
            where,
            ": expected ",
            need,
            " bytes of header and voxels, found ",
            *counted);
  NAS_CHECK(*counted <= need + kSlack,
            where,
            ": expected ",
            need,
            " bytes of header and voxels, found over ",
            kSlack,
            " more");
  const auto result = inflate_members(packed, *counted, out);
  NAS_CHECK(result == LIBDEFLATE_SUCCESS && out.size >= need, damaged());
  return out;
}

std::string gzip(const std::string& bytes) {
  const std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> compressor(
      libdeflate_alloc_compressor(6), libdeflate_free_compressor);
  NAS_CHECK_KIND(Internal, compressor != nullptr, "libdeflate: no compressor");
  std::string out(libdeflate_gzip_compress_bound(compressor.get(), bytes.size()), '\0');
  out.resize(libdeflate_gzip_compress(
      compressor.get(), bytes.data(), bytes.size(), out.data(), out.size()));
  NAS_CHECK_KIND(Internal, !out.empty(), "libdeflate: gzip failed");
  return out;
}

}  // namespace nas
