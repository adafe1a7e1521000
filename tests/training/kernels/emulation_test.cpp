// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "tests/training/kernels/gpu_runs.h"
#include "tests/training/kernels/sample_case.h"
#include "training/kernels/cuda_launch.h"

// The emulated device itself, and what only it can show of our kernels: that no result depends on
// the order of threads and blocks, and that indices hold beyond 2^31.

namespace nas {
namespace {

using emulation::Order;
constexpr Order kOrders[] = {Order::Forward, Order::Backward, Order::Mixed};

/// Sets the order until it dies.
struct InOrder {
  explicit InOrder(Order order) { emulation::set_order(order); }
  ~InOrder() { emulation::set_order(Order::Forward); }
};

/// Sums 64 numbers in a tree; without the barrier it reads what another thread has not written yet.
void tree(const float* in, float* out, bool with_barrier) {
  __shared__ float shared[64];
  shared[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  if (with_barrier) __syncthreads();
  for (unsigned half = 32; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    if (with_barrier) __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = shared[0];
}

TEST(Emulation, BlocksAndThreadsShareWhatTheyShouldInEveryOrder) {
  std::vector<float> in(192);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  for (const Order order : kOrders) {
    const InOrder guard(order);
    std::vector<float> out(3);
    NAS_LAUNCH(tree, 3, 64, nullptr, in.data(), out.data(), true);
    EXPECT_EQ(out, (std::vector<float>{2016, 6112, 10208}));
  }
}

TEST(Emulation, AMissingBarrierShowsInTheOrder) {
  const std::vector<float> in(64, 1.0f);
  std::vector<float> forward(1), backward(1);
  NAS_LAUNCH(tree, 1, 64, nullptr, in.data(), forward.data(), false);
  const InOrder guard(Order::Backward);
  NAS_LAUNCH(tree, 1, 64, nullptr, in.data(), backward.data(), false);
  EXPECT_NE(forward, backward);
}

void some_wait(bool others_wait_elsewhere) {
  if (threadIdx.x < 3) {
    __syncthreads();
  } else if (others_wait_elsewhere) {
    __syncthreads();
  }
}

TEST(Emulation, ABarrierThatNotAllReachIsAnError) {
  for (const bool elsewhere : {false, true}) {
    try {
      NAS_LAUNCH(some_wait, 1, 8, nullptr, elsewhere);
      FAIL() << "accepted";
    } catch (const std::logic_error& e) {
      EXPECT_NE(std::string(e.what()).find("emulation_test.cpp"), std::string::npos) << e.what();
    }
  }
  // The device works on afterwards.
  std::vector<float> in(64, 1.0f), out(1);
  NAS_LAUNCH(tree, 1, 64, nullptr, in.data(), out.data(), true);
  EXPECT_EQ(out[0], 64.0f);
}

TEST(Emulation, RefusesWhatNoGpuRuns) {
  EXPECT_THROW(NAS_LAUNCH(some_wait, 1, 1025, nullptr, true), std::logic_error);
  EXPECT_THROW(NAS_LAUNCH(some_wait, dim3(1, 70000), 8, nullptr, true), std::logic_error);
  EXPECT_THROW(NAS_LAUNCH(some_wait, 0, 8, nullptr, true), std::logic_error);
}

/// Runs f in each order; the results must be the same bits.
template <class F>
void same_in_every_order(const F& f) {
  const auto expected = f();
  for (const Order order : kOrders) {
    const InOrder guard(order);
    EXPECT_TRUE(f() == expected) << static_cast<int>(order);
  }
}

TEST(Emulation, NoKernelDependsOnTheOrder) {
  for (const std::int64_t channels : {3, 24}) {
    same_in_every_order([&] {
      const auto r =
          test::on_device(test::NormActInput<float>({2, 3000, channels}, 0.01f, true, 0));
      return std::tuple(r.y, r.dx, r.mean, r.rstd, r.dgamma, r.dbeta);
    });
  }
  for (const bool regions : {false, true}) {
    same_in_every_order([&] {
      return test::on_device(test::LossInput<float>({2, 9, 5000, true}, regions, 0.0f));
    });
  }
  const test::SampleCase source({14, 17, 19}, 1, 3);
  const Extent3 patch{12, 10, 13};
  const AugmentPlan plan = test::full_plan(1);
  same_in_every_order([&] {
    const test::Sample made = test::sample_on_device(source, {}, patch, plan);
    return std::pair(made.image, made.label);
  });
}

TEST(Emulation, IndicesHoldBeyondTwoToThe31) {
  // A volume of 2.3e9 voxels of which the system keeps only the pages that are written.
  const kernels::Size3 size{1025, 1500, 1500}, patch{2, 3, 4};
  const std::size_t bytes = static_cast<std::size_t>(voxel_count(size)) * sizeof(std::int16_t);
  void* memory = mmap(
      nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* label = static_cast<std::int16_t*>(memory);
  const std::int64_t last = voxel_count(size) - 1;
  ASSERT_GT(last, std::int64_t{1} << 31);
  label[last] = 7;
  label[last - size.w] = 5;
  const kernels::CropPlace place{.begin = {size.d - 2, size.h - 3, size.w - 4}};
  std::vector<std::int16_t> crop(24, -9), turned(24, -9);
  kernels::cuda::crop_label(label, size, place, patch, crop.data(), nullptr);
  kernels::Affine3 map;
  for (int a = 0; a < 3; ++a) map.t[a] = static_cast<float>(place.begin[a]);
  kernels::cuda::affine_label(label, size, map, patch, turned.data(), nullptr);
  munmap(memory, bytes);
  std::vector<std::int16_t> expected(24, 0);
  expected[23] = 7;
  expected[19] = 5;
  EXPECT_EQ(crop, expected);
  EXPECT_EQ(turned, expected);
}

}  // namespace
}  // namespace nas
