// SPDX-License-Identifier: Apache-2.0
#include "nas/core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"

namespace nas {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 80;
}

}  // namespace

Progress::Progress(std::string what, std::int64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      start_(Clock::now()),
      last_draw_(start_) {}

Progress::~Progress() {
  try {
    finish();
  } catch (...) {  // a full terminal or a failing sink must not end the process
  }
}

void Progress::advance(std::int64_t by, const std::string& note) {
  const std::lock_guard lock(mutex_);
  done_ += by;
  if (first_ < 0) first_ = 0;
  if (!note.empty()) note_ = note;
  draw(false);
}

void Progress::set(std::int64_t done, const std::string& note) {
  const std::lock_guard lock(mutex_);
  // Work that was there before this run (a resume) does not count into the rate.
  if (first_ < 0) first_ = done > 1 ? done : 0;
  done_ = done;
  if (!note.empty()) note_ = note;
  draw(false);
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  draw(true);
}

void Progress::draw(bool last) {
  if (!log_enabled(LogLevel::Info) || (finished_ && !last)) return;
  const auto now = Clock::now();
  const bool bar = is_terminal();
  if (!last && seconds_between(last_draw_, now) < (bar ? 1.0 : 60.0)) return;
  last_draw_ = now;

  const double elapsed = seconds_between(start_, now);
  const auto worked = static_cast<double>(done_ - std::max<std::int64_t>(first_, 0));
  const double rate = elapsed > 0 ? worked / elapsed : 0.0;
  std::string line = concat_text(what_, ": ", done_);
  if (total_ > 0) line += concat_text("/", total_);
  if (!unit_.empty()) line += " " + unit_;
  if (rate > 0) line += concat_text(", ", format_count(rate), "/s");
  if (last) {
    line += ", " + format_duration(elapsed);
  } else if (rate > 0 && total_ > done_) {
    line += ", " + format_duration(static_cast<double>(total_ - done_) / rate) + " left";
  }
  if (!note_.empty()) line += ", " + note_;

  if (bar && !last) {
    // Cut to the width: a line that wraps cannot be redrawn in place.
    const std::size_t width = terminal_width() - 1;
    if (total_ > 0) {
      constexpr std::size_t kCells = 20;
      const double share =
          std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
      const auto full = static_cast<std::size_t>(share * kCells);
      line = "[" + std::string(full, '#') + std::string(kCells - full, '.') + "] " + line;
    }
    draw_live_line(line.substr(0, width));
  } else {
    log_line(LogLevel::Info, line);
  }
}

}  // namespace nas
