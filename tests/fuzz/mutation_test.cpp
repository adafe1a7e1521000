// SPDX-License-Identifier: Apache-2.0
// Damaged files end in an Error: thousands of truncated, bit-flipped and spliced inputs per reader,
// the same on every run; and no reader takes memory by a file's claim.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "nas/core/files.h"
#include "nas/core/rng.h"
#include "nas/imaging/nifti.h"
#include "nas/network/safetensors.h"
#include "tests/fuzz/targets.h"
#include "tests/support/support.h"

namespace {

// Bytes that operator new has given out, and the most there were since the last reset.
std::atomic<std::int64_t> live_bytes{0};
std::atomic<std::int64_t> peak_bytes{0};
constexpr std::size_t kHeader = alignof(std::max_align_t);

void* counted_new(std::size_t size) {
  auto* block = static_cast<char*>(std::malloc(size + kHeader));
  if (block == nullptr) throw std::bad_alloc();
  std::memcpy(block, &size, sizeof(size));
  const std::int64_t live = live_bytes += static_cast<std::int64_t>(size);
  std::int64_t peak = peak_bytes.load();
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return block + kHeader;
}
void counted_delete(void* pointer) noexcept {
  if (pointer == nullptr) return;
  char* block = static_cast<char*>(pointer) - kHeader;
  std::size_t size = 0;
  std::memcpy(&size, block, sizeof(size));
  live_bytes -= static_cast<std::int64_t>(size);
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size) { return counted_new(size); }
void* operator new[](std::size_t size) { return counted_new(size); }
// std::stable_sort asks for memory this way; sanitizers bring their own version of every form not
// replaced.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return counted_new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* pointer, const std::nothrow_t&) noexcept { counted_delete(pointer); }
void operator delete[](void* pointer, const std::nothrow_t&) noexcept { counted_delete(pointer); }
void operator delete(void* pointer) noexcept { counted_delete(pointer); }
void operator delete[](void* pointer) noexcept { counted_delete(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { counted_delete(pointer); }
void operator delete[](void* pointer, std::size_t) noexcept { counted_delete(pointer); }

namespace nas::test {
namespace {

class EveryReader : public testing::TestWithParam<FuzzTarget> {};

/// One to eight random changes of the kinds that disks, networks and liars make.
std::string damaged(std::string bytes, Rng& rng) {
  for (std::int64_t change = rng.integer(1, 9); change > 0 && !bytes.empty(); --change) {
    // Headers decide: half of the changes go to the first 400 bytes.
    const auto size = static_cast<std::int64_t>(bytes.size());
    const auto at = static_cast<std::size_t>(
        rng.integer(0, rng.chance(0.5) ? std::min<std::int64_t>(size, 400) : size));
    switch (rng.integer(0, 8)) {
      case 0:
        bytes.resize(at);
        break;
      case 1: {  // an extreme number
        static constexpr std::int64_t kExtremes[] = {0,
                                                     -1,
                                                     1,
                                                     0x7f,
                                                     0xff,
                                                     0x7fff,
                                                     0xffff,
                                                     0x7fffffff,
                                                     INT64_MAX,
                                                     INT64_MIN,
                                                     0x7f800000,
                                                     0x7fc00000};
        const std::int64_t value = kExtremes[rng.integer(0, 12)];
        const auto width =
            std::min<std::size_t>(std::size_t{1} << rng.integer(0, 4), bytes.size() - at);
        std::memcpy(bytes.data() + at, &value, width);
        break;
      }
      case 2:  // a piece from elsewhere
        bytes.insert(at,
                     bytes.substr(static_cast<std::size_t>(rng.integer(0, size)),
                                  static_cast<std::size_t>(rng.integer(1, 40))));
        break;
      case 3:
        bytes.erase(at, static_cast<std::size_t>(rng.integer(1, 20)));
        break;
      case 4:  // what JSON and numbers in text are made of
        bytes[at] = "{}[]\",:0123456789-.eE "[rng.integer(0, 22)];
        break;
      case 5:
        bytes[at] = static_cast<char>(rng.bits());
        break;
      default:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.integer(0, 8)));
        break;
    }
  }
  return bytes;
}

TEST_P(EveryReader, AcceptsItsSeeds) {
  const auto seeds = GetParam().seeds();
  ASSERT_FALSE(seeds.empty());
  for (const std::string& seed : seeds) GetParam().run(std::as_bytes(std::span(seed)));
}

TEST_P(EveryReader, SurvivesEveryTruncation) {
  for (const std::string& seed : GetParam().seeds()) {
    const std::size_t step = std::max<std::size_t>(1, seed.size() / 500);
    for (std::size_t size = 0; size < seed.size(); size += step) {
      GetParam().run(std::as_bytes(std::span(seed).first(size)));
    }
  }
}

TEST_P(EveryReader, SurvivesDamageWithoutTakingMemoryByClaim) {
  const auto seeds = GetParam().seeds();
  Rng rng = Rng("mutations").split(GetParam().name);
  for (int i = 0; i < 10000; ++i) {
    const std::string bytes = damaged(seeds[static_cast<std::size_t>(i) % seeds.size()], rng);
    const std::int64_t before = live_bytes;
    peak_bytes = before;
    GetParam().run(std::as_bytes(std::span(bytes)));
    ASSERT_LE(peak_bytes - before, GetParam().most_memory(std::as_bytes(std::span(bytes))))
        << "input " << i << " of " << bytes.size() << " bytes";
  }
}

TEST(HonestFiles, TakeAtMostTwiceWhatTheyHold) {
  const TempFolder folder;
  Image image;
  image.geometry.shape = {64, 128, 128};
  for (int i = 0; i < 64 * 128 * 128; ++i) image.voxels.push_back(static_cast<float>(i % 1021));
  const auto held = static_cast<std::int64_t>(4 * image.voxels.size());
  write_nifti(folder / "image.nii", image);
  write_nifti(folder / "image.nii.gz", image);
  write_safetensors(folder / "w", {{"weight", view_floats(image.voxels, {64, 128, 128})}});
  const auto taken = [](const auto& read) {
    const std::int64_t before = live_bytes;
    peak_bytes = before;
    read();
    return peak_bytes - before;
  };
  for (const char* name : {"image.nii", "image.nii.gz"}) {
    const std::string file = read_file(folder / name, 64 << 20);
    EXPECT_LE(taken([&] {
                EXPECT_EQ(parse_nifti(std::as_bytes(std::span(file)), name).voxels, image.voxels);
              }),
              2 * held + (64 << 10))
        << name;
  }
  const std::string file = read_file(folder / "w", 64 << 20);
  EXPECT_LE(taken([&] {
              const Safetensors weights = parse_safetensors(std::as_bytes(std::span(file)), "w");
              EXPECT_EQ(to_floats(weights.tensors.at("weight")), image.voxels);
            }),
            2 * held + (64 << 10));
}

INSTANTIATE_TEST_SUITE_P(Readers,
                         EveryReader,
                         testing::ValuesIn(fuzz_targets()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace nas::test
