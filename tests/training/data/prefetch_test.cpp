// SPDX-License-Identifier: Apache-2.0
#include "training/data/prefetch.h"

#include <atomic>
#include <chrono>
#include <string>

#include <gtest/gtest.h>

namespace nas {
namespace {

TEST(Prefetch, HandsOutInOrderWhateverTheWorkers) {
  for (const int workers : {1, 2, 5}) {
    Prefetch<std::string> source(
        [](std::int64_t i) {
          // Later values are often ready first.
          std::this_thread::sleep_for(std::chrono::microseconds((i * 7919) % 300));
          return std::to_string(i);
        },
        3,
        203,
        4,
        workers);
    for (std::int64_t i = 3; i < 203; ++i) EXPECT_EQ(source.next(), std::to_string(i));
    EXPECT_THROW(source.next(), std::out_of_range);
  }
}

TEST(Prefetch, StaysWithinItsReach) {
  std::atomic<std::int64_t> made = 0;
  Prefetch<int> source([&](std::int64_t) { return static_cast<int>(made++); }, 0, 1000, 4, 3);
  for (int taken = 1; taken <= 20; ++taken) {
    source.next();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_LE(made, taken + 4);
  }
}

TEST(Prefetch, HandsOnWhatMakeThrowsAndJoinsItsThreads) {
  std::atomic<int> running = 0;
  {
    Prefetch<int> source(
        [&](std::int64_t i) {
          ++running;
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          --running;
          if (i == 5) throw std::runtime_error("case 5 is damaged");
          return static_cast<int>(i);
        },
        0,
        100,
        4,
        2);
    try {
      for (int i = 0; i < 100; ++i) source.next();
      FAIL() << "expected the error of value 5";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "case 5 is damaged");
    }
  }
  EXPECT_EQ(running, 0);
}

}  // namespace
}  // namespace nas
