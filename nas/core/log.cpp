// SPDX-License-Identifier: Apache-2.0
#include "nas/core/log.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace nas {
namespace {

/// The one place where stderr is written: level, sink and the live line belong together under one
/// lock.
struct Logger {
  std::mutex mutex;
  LogLevel lowest = LogLevel::Info;
  std::function<void(LogLevel, const std::string&)> sink;
  bool live = false;
};

Logger& logger() {
  static Logger* instance = new Logger;  // never destroyed: threads may log until the very end
  return *instance;
}

bool stderr_is_terminal() {
  static const bool is = ::isatty(STDERR_FILENO) == 1;
  return is;
}

struct Style {
  const char* color;
  const char* prefix;
};

Style style_of(LogLevel level) {
  switch (level) {
    case LogLevel::Debug:
      return {"\033[2m", ""};
    case LogLevel::Warning:
      return {"\033[33m", "warning: "};
    case LogLevel::Error:
      return {"\033[31m", "error: "};
    case LogLevel::Info:
      break;
  }
  return {"", ""};
}

constexpr const char* kClearLine = "\r\033[K";

}  // namespace

void log_line(LogLevel level, const std::string& text) {
  Logger& log = logger();
  const std::lock_guard lock(log.mutex);
  if (level < log.lowest) return;
  if (log.sink) {
    log.sink(level, text);
    return;
  }
  const Style style = style_of(level);
  const bool colored = use_color() && *style.color != '\0';
  // One string and one call, so that lines of several processes do not mix.
  const std::string line = concat_text(log.live ? kClearLine : "",
                                       colored ? style.color : "",
                                       style.prefix,
                                       colored ? "\033[0m" : "",
                                       text,
                                       "\n");
  log.live = false;
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

void draw_live_line(const std::string& text) {
  Logger& log = logger();
  const std::lock_guard lock(log.mutex);
  if (text.empty() && !log.live) return;
  const std::string line = kClearLine + text;
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
  log.live = !text.empty();
}

void set_log_level(LogLevel lowest) {
  const std::lock_guard lock(logger().mutex);
  logger().lowest = lowest;
}

void set_log_sink(std::function<void(LogLevel, const std::string&)> sink) {
  const std::lock_guard lock(logger().mutex);
  logger().sink = std::move(sink);
}

bool log_enabled(LogLevel level) {
  const std::lock_guard lock(logger().mutex);
  return level >= logger().lowest;
}

bool use_color() {
  const char* refused = std::getenv("NO_COLOR");
  return stderr_is_terminal() && (refused == nullptr || *refused == '\0');
}

bool is_terminal() {
  const std::lock_guard lock(logger().mutex);
  return stderr_is_terminal() && !logger().sink;
}

}  // namespace nas
