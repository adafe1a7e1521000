// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "nas/core/quantity.h"

namespace nas {

/// One line of progress on stderr: done / total, rate, time left and a note ("loss 0.31, waiting
/// for data 2 %"). On a terminal it is redrawn in place once a second at most; elsewhere a plain line
/// appears once a minute and at the end. Thread-safe.
class Progress {
 public:
  Progress(std::string what, std::int64_t total, std::string unit = "");
  ~Progress();  // finishes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::int64_t by = 1, const std::string& note = {});
  void set(std::int64_t done, const std::string& note = {});
  void finish();

 private:
  void draw(bool last);
  std::mutex mutex_;
  std::string what_, unit_, note_;
  std::int64_t total_, done_ = 0, first_ = -1;
  std::chrono::steady_clock::time_point start_, last_draw_;
  bool finished_ = false;
};

}  // namespace nas
