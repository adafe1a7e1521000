// SPDX-License-Identifier: Apache-2.0
#include "nas/core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "nas/core/error.h"
#include "nas/core/log.h"

namespace nas {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

template <class... Values>
std::string printed(const char* format, Values... values) {
  std::array<char, 96> buffer{};
  const int length = std::snprintf(buffer.data(), buffer.size(), format, values...);
  return std::string(buffer.data(), static_cast<std::size_t>(std::max(0, length)));
}

/// Three significant digits and a unit prefix; whole numbers below 1000 stay as they are.
template <std::size_t N>
std::string scaled(double value, const std::array<const char*, N>& units) {
  if (!std::isfinite(value)) return "?";
  std::size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < N) {
    value /= 1000.0;
    ++unit;
  }
  const double size = std::abs(value);
  const bool whole = unit == 0 && value == std::floor(value);
  const int decimals = whole || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  const std::string number = printed("%.*f", decimals, value);
  return *units[unit] == '\0' ? number : number + " " + units[unit];
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
  if (!last && seconds_between(last_draw_, now) < (bar ? 0.1 : 30.0)) return;
  last_draw_ = now;

  const double elapsed = seconds_between(start_, now);
  const auto worked = static_cast<double>(done_ - std::max<std::int64_t>(first_, 0));
  const double rate = elapsed > 0 ? worked / elapsed : 0.0;
  std::string line = concat_text(what_, ": ", done_);
  if (total_ > 0) line += concat_text("/", total_);
  if (!unit_.empty()) line += " " + unit_;
  if (rate > 0) line += concat_text(", ", scaled(rate, std::array{"", "k", "M"}), "/s");
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

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 0.0995) return printed("%.0f ms", seconds * 1000);
  if (seconds < 59.95) return printed("%.1f s", seconds);
  const double whole = std::round(seconds);
  if (whole < 3600)
    return printed("%.0f min %02.0f s", std::floor(whole / 60), std::fmod(whole, 60));
  const double minutes = std::round(seconds / 60);
  if (minutes < 24 * 60) {
    return printed("%.0f h %02.0f min", std::floor(minutes / 60), std::fmod(minutes, 60));
  }
  const double hours = std::round(seconds / 3600);
  return printed("%.0f d %02.0f h", std::floor(hours / 24), std::fmod(hours, 24));
}

std::string format_bytes(double bytes) {
  return scaled(bytes, std::array{"B", "kB", "MB", "GB", "TB", "PB"});
}

std::string format_count(double count) { return scaled(count, std::array{"", "k", "M", "G", "T"}); }

double parse_duration(const std::string& text) {
  const auto refuse = [&]() {
    fail(ErrorKind::Usage,
         "expected a duration such as 90s, 20m, 2h, 1d or 1h30m, found \"",
         text,
         "\"");
  };
  const auto skip_spaces = [](const char* at, const char* end) {
    while (at != end && *at == ' ') ++at;
    return at;
  };
  const char* const end = text.data() + text.size();
  const char* at = skip_spaces(text.data(), end);
  if (at == end) refuse();
  double total = 0;
  double last_unit = HUGE_VAL;
  while (at != end) {
    double value = 0;
    if (!((*at >= '0' && *at <= '9') || *at == '.')) refuse();  // no sign, inf or nan
    const auto parsed = std::from_chars(at, end, value, std::chars_format::fixed);
    if (parsed.ec != std::errc{}) refuse();
    at = skip_spaces(parsed.ptr, end);
    double unit = 1;
    if (at == end) {
      if (last_unit != HUGE_VAL) refuse();  // "1h30": minutes or seconds?
    } else {
      switch (*at++) {
        case 's':
          unit = 1;
          break;
        case 'm':
          unit = 60;
          break;
        case 'h':
          unit = 3600;
          break;
        case 'd':
          unit = 86400;
          break;
        default:
          refuse();
      }
    }
    if (unit >= last_unit) refuse();  // "30m1h", "1h2h"
    last_unit = unit;
    total += value * unit;
    at = skip_spaces(at, end);
  }
  if (!std::isfinite(total)) refuse();
  return total;
}

}  // namespace nas
