// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nas/core/error.h"

namespace nas {

enum class LogLevel { Debug, Info, Warning, Error };

/// Human text goes to stderr; stdout belongs to results (`--json`). Thread-safe; a progress bar is
/// cleared first.
void log_line(LogLevel level, const std::string& text);
void set_log_level(LogLevel lowest);
/// Tests replace the sink (nullptr restores stderr).
void set_log_sink(std::function<void(LogLevel, const std::string&)> sink);

template <class... Parts>
void log_info(const Parts&... parts) {
  log_line(LogLevel::Info, concat_text(parts...));
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  log_line(LogLevel::Warning, concat_text(parts...));
}

/// Whether a line of this level would be written.
bool log_enabled(LogLevel level);
/// Draws `text` over the current line of the terminal and leaves it there as the live line (a
/// progress bar), which log_line clears first. Empty text removes it.
void draw_live_line(const std::string& text);

/// True if stderr is a terminal and NO_COLOR is unset.
bool use_color();
/// True if stderr is a terminal and no sink is set: progress bars are drawn only then.
bool is_terminal();

}  // namespace nas
