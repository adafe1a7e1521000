// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

/// Times, bytes and counts with their units, as people write and read them.
namespace nas {

/// "1 h 02 min", "3 min 20 s", "12.3 s".
std::string format_duration(double seconds);
/// "1.23 GB", "640 MB" (decimal).
std::string format_bytes(double bytes);
/// "5.66 M", "12.3 k".
std::string format_count(double count);
/// Seconds from "90", "90s", "20m", "2h", "1d", "1h30m". \throws Error(Usage) naming the text.
double parse_duration(const std::string& text);

/// "4M", "750k", "2G" -> a count (powers of 1000); "2GB", "512MB", "1GiB" -> bytes.
/// \throws Error(Usage) naming `what` and the forms that are known.
std::int64_t parse_count(const std::string& text, const std::string& what);
std::int64_t parse_bytes(const std::string& text, const std::string& what);
/// "50ms", "0.2s" -> seconds. \throws Error(Usage) likewise.
double parse_step_time(const std::string& text, const std::string& what);

}  // namespace nas
