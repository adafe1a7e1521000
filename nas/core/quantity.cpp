// SPDX-License-Identifier: Apache-2.0
#include "nas/core/quantity.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "nas/core/error.h"

namespace nas {
namespace {

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

struct Unit {
  std::string_view name;
  double factor;
};

/// The number times its unit's factor, in (0, 9e18).
double parse_with_units(const std::string& text,
                        const std::string& what,
                        std::span<const Unit> units,
                        const char* forms) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const std::string_view rest(end);
  for (const Unit& unit : units) {
    if (end == text.c_str() || rest != unit.name) continue;
    const double value = number * unit.factor;
    if (value > 0 && value < 9e18) return value;
  }
  fail(ErrorKind::Usage, what, ": expected a number such as ", forms, ", found '", text, "'");
}

std::int64_t whole(double value) { return std::max<std::int64_t>(1, std::llround(value)); }

}  // namespace

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

std::int64_t parse_count(const std::string& text, const std::string& what) {
  constexpr std::array kUnits{
      Unit{"", 1}, Unit{"k", 1e3}, Unit{"K", 1e3}, Unit{"M", 1e6}, Unit{"G", 1e9}, Unit{"T", 1e12}};
  return whole(parse_with_units(text, what, kUnits, "750k, 4M or 2.5G"));
}

std::int64_t parse_bytes(const std::string& text, const std::string& what) {
  constexpr std::array kUnits{Unit{"B", 1},
                              Unit{"kB", 1e3},
                              Unit{"MB", 1e6},
                              Unit{"GB", 1e9},
                              Unit{"KiB", 1024},
                              Unit{"MiB", 1024.0 * 1024},
                              Unit{"GiB", 1024.0 * 1024 * 1024}};
  return whole(parse_with_units(text, what, kUnits, "512MB, 2GB or 1.5GiB"));
}

double parse_step_time(const std::string& text, const std::string& what) {
  constexpr std::array kUnits{Unit{"ms", 1e-3}, Unit{"s", 1}, Unit{"us", 1e-6}};
  return parse_with_units(text, what, kUnits, "50ms or 0.2s");
}

}  // namespace nas
