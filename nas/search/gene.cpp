// SPDX-License-Identifier: Apache-2.0
#include "nas/search/gene.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

std::string decimal(double number, int digits) {
  char text[64];
  const auto end =
      std::to_chars(text, text + sizeof text, number, std::chars_format::general, digits);
  return {text, end.ptr};
}

/// The shortest text of exactly this number.
std::string decimal(double number) {
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

std::optional<double> number_in(std::string_view text) {
  double number = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size() || !std::isfinite(number))
    return std::nullopt;
  return number;
}

double unit_of(const Gene& gene, double number) {
  return gene.log ? std::log(number / gene.lo) / std::log(gene.hi / gene.lo)
                  : (number - gene.lo) / (gene.hi - gene.lo);
}

double at_unit(const Gene& gene, double u) {
  if (u <= 0) return gene.lo;
  if (u >= 1) return gene.hi;
  return gene.log ? gene.lo * std::pow(gene.hi / gene.lo, u) : gene.lo + (gene.hi - gene.lo) * u;
}

}  // namespace

std::int64_t Gene::count() const {
  if (kind == Kind::Choice) return std::ssize(values);
  if (kind == Kind::Integer) return static_cast<std::int64_t>(hi - lo) + 1;
  return levels > 0 ? levels : kLevels;
}

double Gene::value(int i) const {
  NAS_CHECK_KIND(
      Internal, ordered() && i >= 0 && i < count(), "gene ", name, ": no number has index ", i);
  if (kind == Kind::Integer) return lo + i;
  return at_unit(*this, unit(i));
}

std::string Gene::text(int i) const {
  NAS_CHECK_KIND(Internal,
                 i >= 0 && i < count(),
                 "gene ",
                 name,
                 ": expected an index in [0, ",
                 count(),
                 "), got ",
                 i);
  if (kind == Kind::Choice) return values[static_cast<std::size_t>(i)];
  const double number = value(i);
  if (kind == Kind::Integer) return std::to_string(static_cast<std::int64_t>(number));
  for (int digits = 1; digits < std::numeric_limits<double>::max_digits10; ++digits) {
    std::string written = decimal(number, digits);
    if (index(written) == i) return written;
  }
  return decimal(number);
}

std::optional<int> Gene::index(std::string_view text) const {
  if (kind == Kind::Choice) {
    const auto found = std::ranges::find(values, text);
    if (found == values.end()) return std::nullopt;
    return static_cast<int>(found - values.begin());
  }
  const std::optional<double> number = number_in(text);
  if (!number || *number < lo || *number > hi) return std::nullopt;
  if (kind == Kind::Real) return index_of_unit(unit_of(*this, *number));
  if (*number != std::floor(*number)) return std::nullopt;
  return static_cast<int>(*number - lo);
}

double Gene::unit(int i) const {
  if (count() < 2) return 0;
  if (kind == Kind::Integer && log) return unit_of(*this, value(i));
  return static_cast<double>(i) / static_cast<double>(count() - 1);
}

int Gene::index_of_unit(double u) const {
  if (!(u > 0)) u = 0;  // also NaN
  u = std::min(u, 1.0);
  if (kind == Kind::Integer && log) return static_cast<int>(std::round(at_unit(*this, u) - lo));
  return static_cast<int>(std::round(u * static_cast<double>(count() - 1)));
}

int Gene::draw(Rng& rng) const {
  if (kind != Kind::Integer || !log) return static_cast<int>(rng.integer(0, count()));
  // Each integer has the share of the interval around it, the ends too.
  const double drawn = std::exp(rng.uniform(std::log(lo - 0.5), std::log(hi + 0.5)));
  return static_cast<int>(std::clamp(std::round(drawn), lo, hi) - lo);
}

std::string Gene::range_text() const {
  if (kind == Kind::Choice) return joined(values);
  return concat_text(kind == Kind::Integer ? "whole numbers from " : "",
                     text(0),
                     " to ",
                     text(static_cast<int>(count()) - 1),
                     log ? " (log)" : "");
}

std::string Gene::malformed_reason(std::size_t place) const {
  if (name.empty() || name.find_first_of(" \t\n=") != std::string::npos)
    return concat_text("expected a name without spaces and '=', got '", name, "'");
  if (kind == Kind::Choice) {
    if (values.empty()) return "expected at least one value";
    std::set<std::string> seen;
    for (const std::string& each : values) {
      if (each.empty() || each.find_first_of(" \t\n") != std::string::npos)
        return concat_text("expected values without spaces, got '", each, "'");
      if (!seen.insert(each).second) return concat_text("value '", each, "' is there twice");
    }
  } else {
    if (!std::isfinite(lo) || !std::isfinite(hi) || lo >= hi)
      return concat_text("expected finite min < max, got ", decimal(lo), " and ", decimal(hi));
    if (log && lo <= 0) return concat_text("log needs min > 0, got ", decimal(lo));
    if (kind == Kind::Integer && (lo != std::floor(lo) || hi != std::floor(hi)))
      return concat_text(
          "expected whole numbers as min and max, got ", decimal(lo), " and ", decimal(hi));
    if (hi - lo >= std::numeric_limits<int>::max() / 2.0 && kind == Kind::Integer)
      return concat_text("too many whole numbers from ", decimal(lo), " to ", decimal(hi));
    if (kind == Kind::Real && (count() < 2 || count() > std::numeric_limits<int>::max()))
      return concat_text("expected at least 2 levels, got ", count());
  }
  if (planned < 0 || planned >= count())
    return concat_text("planned value: expected an index in [0, ", count(), "), got ", planned);
  if (parent >= 0 && std::cmp_greater_equal(parent, place))
    return "is active for values of a gene that does not stand before it";
  return "";
}

}  // namespace nas
