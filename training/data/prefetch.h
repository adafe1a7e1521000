// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace nas {

/// make(first), make(first + 1), ... make(end - 1), made by `workers` threads ahead of their use and
/// handed out in order. At most `ahead` values beyond the one that is asked for are kept. Whatever
/// `make` throws is thrown by next().
template <class T>
class Prefetch {
 public:
  Prefetch(std::function<T(std::int64_t)> make,
           std::int64_t first,
           std::int64_t end,
           std::int64_t ahead,
           int workers)
      : make_(std::move(make)), ahead_(ahead), end_(end), wanted_(first), claimed_(first) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  ~Prefetch() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// Waits for the next value. \throws std::out_of_range behind the last.
  T next() {
    std::unique_lock lock(mutex_);
    if (wanted_ >= end_) throw std::out_of_range("Prefetch::next: behind the last value");
    changed_.wait(lock, [this] { return error_ || ready_.contains(wanted_); });
    if (error_) std::rethrow_exception(error_);
    T value = std::move(ready_.at(wanted_));
    ready_.erase(wanted_++);
    changed_.notify_all();
    return value;
  }

 private:
  void work() {
    try {
      for (;;) {
        std::int64_t number = 0;
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock,
                        [this] { return stopping_ || error_ || claimed_ < wanted_ + ahead_; });
          if (stopping_ || error_ || claimed_ >= end_) return;
          number = claimed_++;
        }
        T value = make_(number);
        const std::lock_guard lock(mutex_);
        ready_.emplace(number, std::move(value));
        changed_.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      changed_.notify_all();
    }
  }

  const std::function<T(std::int64_t)> make_;
  const std::int64_t ahead_, end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, T> ready_;
  std::int64_t wanted_, claimed_;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace nas
