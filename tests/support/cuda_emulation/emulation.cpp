// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <setjmp.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace nas::emulation {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;

struct Fiber {
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
  jmp_buf place;  // where it goes on
  bool started = false;
  unsigned thread = 0;
  bool ended = false;
  const char* file = nullptr;  // of the barrier at which it waits
  int line = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
};

/// What one launch at a time needs; a kernel never launches another.
struct Device {
  Order order = Order::Forward;
  jmp_buf scheduler;
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from launch to launch
  Fiber* running = nullptr;
  const std::function<void()>* thread = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_bytes = 0;
  void* fake_stack = nullptr;
};
thread_local Device device;

#if defined(__SANITIZE_ADDRESS__)
void leave(void** kept, const void* stack, std::size_t bytes) {
  __sanitizer_start_switch_fiber(kept, stack, bytes);
}
void arrive(void* kept, const void** from, std::size_t* bytes) {
  __sanitizer_finish_switch_fiber(kept, from, bytes);
}
#else
void leave(void**, const void*, std::size_t) {}
void arrive(void*, const void**, std::size_t*) {}
#endif

// ucontext starts a fiber, setjmp changes between them: swapcontext would ask the system each time.

void to_scheduler() {
  Fiber& fiber = *device.running;
  leave(&fiber.fake_stack, device.scheduler_stack, device.scheduler_bytes);
  if (_setjmp(fiber.place) == 0) _longjmp(device.scheduler, 1);
  arrive(device.running->fake_stack, &device.scheduler_stack, &device.scheduler_bytes);
}

/// A fiber runs one thread of a block after another.
void fiber_main() {
  arrive(nullptr, &device.scheduler_stack, &device.scheduler_bytes);
  for (;;) {
    (*device.thread)();
    device.running->ended = true;
    to_scheduler();
  }
}

void enter(Fiber& fiber) {
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  ucontext_t context{};
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  makecontext(&context, fiber_main, 0);
  setcontext(&context);
}

void resume(Fiber& fiber) {
  device.running = &fiber;
  threadIdx = dim3(fiber.thread % blockDim.x,
                   fiber.thread / blockDim.x % blockDim.y,
                   fiber.thread / (blockDim.x * blockDim.y));
  leave(&device.fake_stack, fiber.stack.get(), kStackBytes);
  if (_setjmp(device.scheduler) == 0) enter(fiber);
  arrive(device.fake_stack, nullptr, nullptr);
}

/// The i-th of n in the chosen order. Mixed: a stride that has no factor in common with n.
std::size_t turn(std::size_t i, std::size_t n) {
  if (device.order == Order::Forward) return i;
  if (device.order == Order::Backward) return n - 1 - i;
  std::size_t stride = n / 2 + 1;
  while (std::gcd(stride, n) != 1) ++stride;
  return i * stride % n;
}

std::string place_of(const Fiber& fiber) {
  return "thread " + std::to_string(fiber.thread) +
         (fiber.ended ? " has ended"
                      : " waits at " + std::string(fiber.file) + ":" + std::to_string(fiber.line));
}

void run_block(std::size_t threads) {
  std::vector<Fiber*> waiting;
  const Fiber* ended = nullptr;
  std::size_t used = 0;
  for (std::size_t i = 0; i < threads; ++i) {
    // A thread that ended without a barrier leaves its fiber to the next.
    if (used == device.fibers.size()) device.fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *device.fibers[used];
    fiber.thread = static_cast<unsigned>(turn(i, threads));
    fiber.ended = false;
    resume(fiber);
    if (fiber.ended) {
      ended = &fiber;
    } else {
      waiting.push_back(&fiber);
      ++used;
    }
  }
  while (!waiting.empty()) {
    if (ended != nullptr) {
      throw std::logic_error("emulated kernel: " + place_of(*waiting[0]) +
                             " while another has ended");
    }
    for (const Fiber* fiber : waiting) {
      if (fiber->file != waiting[0]->file || fiber->line != waiting[0]->line) {
        throw std::logic_error("emulated kernel: " + place_of(*waiting[0]) + ", " +
                               place_of(*fiber));
      }
    }
    std::vector<Fiber*> next;
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      Fiber& fiber = *waiting[turn(i, waiting.size())];
      resume(fiber);
      if (fiber.ended) {
        ended = &fiber;
      } else {
        next.push_back(&fiber);
      }
    }
    waiting = std::move(next);
  }
}

}  // namespace

void set_order(Order order) { device.order = order; }

void barrier(const char* file, int line) {
  device.running->file = file;
  device.running->line = line;
  to_scheduler();
}

void launch(dim3 grid, dim3 block, const std::function<void()>& thread) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  // CUDA C++ Programming Guide, "Compute Capabilities": what every device since 5.0 allows.
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.x > 2147483647 ||
      grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535) {
    throw std::logic_error("emulated kernel: no GPU runs a grid of " + std::to_string(grid.x) +
                           " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) +
                           " blocks of " + std::to_string(threads) + " threads");
  }
  device.thread = &thread;
  gridDim = grid;
  blockDim = block;
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  for (std::size_t i = 0; i < blocks; ++i) {
    const auto b = static_cast<unsigned>(turn(i, blocks));
    blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y));
    try {
      run_block(threads);
    } catch (...) {
      device.fibers.clear();  // some wait for ever
      throw;
    }
  }
}

}  // namespace nas::emulation
