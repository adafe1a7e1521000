// SPDX-License-Identifier: Apache-2.0
#include "nas/core/hash.h"

#include <xxhash.h>

#include <array>
#include <cstdint>
#include <new>

#include "nas/core/error.h"
#include "nas/core/files.h"

namespace nas {
namespace {

std::string to_hex(XXH128_hash_t hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::string text;
  text.reserve(2 * sizeof(canonical.digest));
  for (const unsigned char byte : canonical.digest) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

}  // namespace

std::string hash_hex(std::string_view bytes) {
  return to_hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string hash_file(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return to_hex(XXH3_128bits(mapped.bytes().data(), mapped.bytes().size()));
}

struct Hasher::State {
  State() : stream(XXH3_createState()) {
    if (stream == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(stream);
  }
  ~State() { XXH3_freeState(stream); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  XXH3_state_t* stream;
};

Hasher::Hasher() : state_(std::make_unique<State>()) {}
Hasher::~Hasher() = default;

Hasher& Hasher::add(std::string_view bytes) {
  std::array<unsigned char, 8> length{};  // little-endian on every machine
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<unsigned char>(static_cast<std::uint64_t>(bytes.size()) >> (8 * i));
  }
  XXH3_128bits_update(state_->stream, length.data(), length.size());
  XXH3_128bits_update(state_->stream, bytes.data(), bytes.size());
  return *this;
}

std::string Hasher::hex() const { return to_hex(XXH3_128bits_digest(state_->stream)); }

}  // namespace nas
