// SPDX-License-Identifier: Apache-2.0
#include "nas/core/rng.h"

#include <cmath>
#include <numbers>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::uint64_t kTextDomain = 0x746578745f6b6579u;
constexpr std::uint64_t kNumberDomain = 0x6e756d6265725f6bu;

std::uint64_t mix(std::uint64_t key, std::uint64_t value, std::uint64_t domain) {
  const Philox4 words = philox4x32(key, value, domain);
  return (static_cast<std::uint64_t>(words.v[1]) << 32) | words.v[0];
}

std::uint64_t mix_text(std::uint64_t key, std::string_view text) {
  key = mix(key, text.size(), kTextDomain);
  for (std::size_t i = 0; i < text.size(); i += 8) {
    std::uint64_t word = 0;
    for (std::size_t j = i; j < text.size() && j < i + 8; ++j) {
      word |= static_cast<std::uint64_t>(static_cast<unsigned char>(text[j])) << (8 * (j - i));
    }
    key = mix(key, word, kTextDomain);
  }
  return key;
}

}  // namespace

Rng::Rng(std::uint64_t seed) : key_(mix(0, seed, kNumberDomain)) {}
Rng::Rng(std::string_view seed) : key_(mix_text(0, seed)) {}

Rng Rng::split(std::string_view label) const { return restore(mix_text(key_, label), 0); }

Rng Rng::mixed(std::uint64_t number) const { return restore(mix(key_, number, kNumberDomain), 0); }

Rng Rng::restore(std::uint64_t key, std::uint64_t counter) {
  Rng rng;
  rng.key_ = key;
  rng.counter_ = counter;
  return rng;
}

std::uint32_t Rng::bits() {
  const Philox4 words = philox4x32(key_, counter_ / 4);
  return words.v[counter_++ % 4];
}

std::uint64_t Rng::bits64() {
  const std::uint64_t low = bits();
  return (static_cast<std::uint64_t>(bits()) << 32) | low;
}

double Rng::uniform() { return static_cast<double>(bits64() >> 11) * 0x1.0p-53; }

double Rng::uniform(double low, double high) { return low + (high - low) * uniform(); }

std::int64_t Rng::integer(std::int64_t low, std::int64_t high) {
  NAS_CHECK_KIND(Internal, low < high, "Rng::integer: empty range [", low, ", ", high, ")");
  const std::uint64_t range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  const std::uint64_t limit = UINT64_MAX - UINT64_MAX % range;  // rejection keeps it unbiased
  std::uint64_t drawn = bits64();
  while (drawn >= limit) drawn = bits64();
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + drawn % range);
}

double Rng::normal() {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

bool Rng::chance(double probability) { return uniform() < probability; }

}  // namespace nas
