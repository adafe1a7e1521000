// SPDX-License-Identifier: Apache-2.0
#include "nas/report/race.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "nas/report/plot.h"

namespace nas {
namespace {

constexpr const char* kChosenColor = "#0072b2";
constexpr const char* kOthersColor = "#c3cad2";

struct Point {
  double effort, score;
};

struct Contestant {
  std::string name, network, why, color = kOthersColor;
  std::vector<Point> points;        // by effort
  double expected = NAN, sd = NAN;  // at the horizon
  bool stands_out() const { return color != kOthersColor; }
  std::string title() const {
    return name.empty() || name == network ? network : name + ": " + network;
  }
};

std::vector<Contestant> contestants_of(const Json& story) {
  std::vector<Contestant> result;
  const Json& contestants = part(story, "contestants");
  if (!contestants.is_array()) return result;
  for (const Json& c : contestants) {
    Contestant one;
    one.name = text_or(c, "name");
    one.network = c.contains("network") ? text_or(c, "network") : text_or(c, "genotype");
    one.why = text_or(c, "why");
    for (const Json& p : part(c, "curve")) {
      one.points.push_back({number_or(p, "effort", NAN), number_or(p, "score", NAN)});
    }
    std::erase_if(one.points,
                  [](const Point& p) { return !(p.effort > 0) || !std::isfinite(p.score); });
    std::ranges::sort(one.points, {}, &Point::effort);
    const Json& expected = part(c, "expected");
    one.expected = number_or(expected, "mean", NAN);
    one.sd = number_or(expected, "sd", NAN);
    if (one.name == "baseline") one.color = kBaselineColor;
    if (one.why == "chosen") one.color = kChosenColor;
    result.push_back(std::move(one));
  }
  return result;
}

/// A mark at the horizon with its standard deviation.
void draw_expected(std::ostringstream& svg, const Contestant& c, const Axis& y, double at) {
  if (!std::isfinite(c.expected)) return;
  if (std::isfinite(c.sd)) {
    svg << "<line x1=\"" << at << "\" x2=\"" << at << "\" y1=\"" << y(c.expected - c.sd)
        << "\" y2=\"" << y(c.expected + c.sd) << "\" stroke=\"" << c.color
        << "\" stroke-width=\"2\"/>";
  }
  svg << "<circle cx=\"" << at << "\" cy=\"" << y(c.expected)
      << "\" r=\"4\" fill=\"#fff\" stroke=\"" << c.color << "\" stroke-width=\"2\"><title>"
      << escaped(c.title()) << ", expected " << fixed(c.expected, 4) << " +/- " << fixed(c.sd, 4)
      << "</title></circle>\n";
}

void draw_curve(std::ostringstream& svg, const Contestant& c, const Axis& x, const Axis& y) {
  svg << "<polyline fill=\"none\" stroke=\"" << c.color << "\" stroke-width=\""
      << (c.stands_out() ? 2.5 : 1.2) << "\" points=\"";
  for (const Point& p : c.points) svg << x(std::log10(p.effort)) << ',' << y(p.score) << ' ';
  svg << "\"/>\n";
  for (const Point& p : c.points) {
    svg << "<circle cx=\"" << x(std::log10(p.effort)) << "\" cy=\"" << y(p.score) << "\" r=\""
        << (c.stands_out() ? 4 : 2.5) << "\" fill=\"" << c.color << "\"><title>"
        << escaped(c.title()) << ", effort " << fixed(p.effort, 0) << ": " << fixed(p.score, 4)
        << "</title></circle>\n";
  }
}

}  // namespace

std::string race_svg(const Json& story) {
  const double horizon = number_or(story, "horizon", NAN);
  std::vector<Contestant> contestants = contestants_of(story);
  std::erase_if(contestants, [](const Contestant& c) { return c.points.empty(); });
  if (contestants.empty() || !(horizon > 0)) return "";
  // Those that stand out come last, on top.
  std::ranges::stable_sort(contestants, {}, &Contestant::stands_out);
  double low_x = std::log10(horizon), high_x = low_x, low_y = INFINITY, high_y = -INFINITY;
  const auto reach = [&](double value) {
    if (!std::isfinite(value)) return;
    low_y = std::min(low_y, value);
    high_y = std::max(high_y, value);
  };
  for (const Contestant& c : contestants) {
    for (const Point& p : c.points) {
      low_x = std::min(low_x, std::log10(p.effort));
      high_x = std::max(high_x, std::log10(p.effort));
      reach(p.score);
    }
    if (c.stands_out()) {
      reach(c.expected - c.sd);
      reach(c.expected + c.sd);
    }
  }
  widen(low_x, high_x, 0.2);
  widen(low_y, high_y, 0.02);
  const Axis x{low_x, high_x, 64, 700}, y{low_y, high_y, 236, 14};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 720 280\" role=\"img\" "
         "aria-label=\"Learning curves\">\n";
  draw_axes(svg, x, y, "effort so far, power of ten", "Dice, inner validation");
  svg << "<line class=\"diagonal\" x1=\"" << x(std::log10(horizon)) << "\" x2=\""
      << x(std::log10(horizon)) << "\" y1=\"" << y.from << "\" y2=\"" << y.to << "\"/>\n";
  for (const Contestant& c : contestants) draw_curve(svg, c, x, y);
  double shift = -4;  // side by side
  for (const Contestant& c : contestants) {
    if (!c.stands_out()) continue;
    draw_expected(svg, c, y, x(std::log10(horizon)) + shift);
    shift += 8;
  }
  svg << "</svg></div>\n<p class=\"legend\">";
  for (const Contestant& c : contestants) {
    if (!c.stands_out()) continue;
    const bool plan = c.name == "baseline";
    svg << "<span><i style=\"background:" << c.color << "\"></i>"
        << (!plan               ? "chosen: " + escaped(c.title())
            : c.why == "chosen" ? "planned network, chosen"
                                : "planned network")
        << "</span>";
  }
  svg << "<span>ring: expected at the horizon, " << fixed(horizon, 0)
      << ", with its standard deviation</span></p>\n";
  return svg.str();
}

Table race_table(const Json& story) {
  Table table{{"contestant", "effort", "Dice", "expected", "+/-", ""}, {}, "wrrrrw", {}};
  std::vector<Contestant> contestants = contestants_of(story);
  std::erase_if(contestants, [](const Contestant& c) { return c.points.empty(); });
  if (!(number_or(story, "horizon", NAN) > 0)) return table;
  std::ranges::stable_sort(contestants, [](const Contestant& a, const Contestant& b) {
    return a.points.back().score > b.points.back().score;
  });
  for (const Contestant& c : contestants) {
    table.rows.push_back({c.title(),
                          fixed(c.points.back().effort, 0),
                          fixed(c.points.back().score, 4),
                          fixed(c.expected, 4),
                          fixed(c.sd, 4),
                          c.why});
  }
  return table;
}

}  // namespace nas
