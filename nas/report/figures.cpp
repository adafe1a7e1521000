// SPDX-License-Identifier: Apache-2.0
#include "nas/report/figures.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/report/plot.h"
#include "nas/report/text.h"

namespace nas {
namespace {

constexpr const char* kRungColors[] = {"#9ecae1", "#4292c6", "#08519c", "#08306b"};

}  // namespace

std::string search_curve_svg(const Json& data) {
  const bool clock = budget_is_time(data);
  struct Point {
    double x, y;
    int rung;
    bool baseline;
    std::string title;
  };
  std::vector<Point> points;
  for (const Json& t : data.at("trials")) {
    if (t.at("purpose") != "search" || !t.at("score").is_number()) continue;
    points.push_back({clock ? t.at("ended").get<double>() / 60 : t.at("id").get<double>(),
                      t.at("score"),
                      t.at("rung"),
                      t.at("label") == "baseline",
                      concat_text("trial ",
                                  t.at("id").dump(),
                                  ", rung ",
                                  t.at("rung").dump(),
                                  ": ",
                                  t.at("network").get<std::string>(),
                                  concat_text(", ", score_name(data), " "),
                                  fixed(t.at("score"), 4))});
  }
  if (points.empty()) return "";
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
  double low_y = points[0].y, high_y = low_y, low_x = points.front().x, high_x = points.back().x;
  int rungs = 0;
  for (const Point& p : points) {
    low_y = std::min(low_y, p.y);
    high_y = std::max(high_y, p.y);
    rungs = std::max(rungs, p.rung);
  }
  widen(low_y, high_y, 0.02);
  widen(low_x, high_x, clock ? 0.5 : 1);
  if (clock) low_x = std::max(0.0, low_x);
  const Axis x{low_x, high_x, 64, 700}, y{low_y, high_y, 236, 14};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 720 280\" role=\"img\" "
         "aria-label=\"Search curve\">\n";
  draw_axes(svg,
            x,
            y,
            clock ? "minutes since the start" : "trial",
            score_name(data) + ", inner validation");
  std::ostringstream stair;
  double best = points[0].y;
  stair << "M" << x(points[0].x) << ' ' << y(best);
  for (const Point& p : points) {
    if (p.y <= best) continue;
    stair << " H" << x(p.x) << " V" << y(p.y);
    best = p.y;
  }
  stair << " H" << x(points.back().x);
  svg << "<path class=\"stair\" d=\"" << stair.str() << "\"/>\n";
  for (const Point& p : points) {
    const char* color = kRungColors[std::min(p.rung, 3)];
    svg << "<circle cx=\"" << x(p.x) << "\" cy=\"" << y(p.y) << "\" r=\"" << (p.baseline ? 6 : 5)
        << "\" fill=\"" << color << "\" stroke=\"" << (p.baseline ? kBaselineColor : "#fff")
        << "\" stroke-width=\"" << (p.baseline ? 3 : 1) << "\"><title>" << escaped(p.title)
        << "</title></circle>\n";
  }
  svg << "</svg></div>\n<p class=\"legend\">";
  for (int r = 0; r <= std::min(rungs, 3); ++r) {
    svg << "<span><i style=\"background:" << kRungColors[r] << "\"></i>rung " << r << "</span>";
  }
  if (std::ranges::any_of(points, &Point::baseline)) {
    svg << "<span><i style=\"border:3px solid " << kBaselineColor
        << "\"></i>planned baseline</span>";
  }
  svg << "<span><i class=\"line\"></i>best so far</span></p>\n";
  return svg.str();
}

std::string scatter_svg(const Json& comparison) {
  double low = 1, high = 0;
  for (const Json& c : comparison.at("cases")) {
    if (!c.at("difference").is_number()) continue;
    for (const char* who : {"best", "baseline"}) {
      low = std::min(low, c.at(who).get<double>());
      high = std::max(high, c.at(who).get<double>());
    }
  }
  if (high < low) return "";
  widen(low, high, 0.04);
  const Axis x{low, high, 64, 344}, y{low, high, 304, 24};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<svg viewBox=\"0 0 360 350\" class=\"half\" role=\"img\" aria-label=\"Dice per case\">\n";
  draw_axes(svg, x, y, "Dice of the planned baseline", "Dice of the searched network");
  svg << "<line class=\"diagonal\" x1=\"" << x(low) << "\" y1=\"" << y(low) << "\" x2=\"" << x(high)
      << "\" y2=\"" << y(high) << "\"/>\n";
  for (const Json& c : comparison.at("cases")) {
    if (!c.at("difference").is_number()) continue;
    const bool up = c.at("difference").get<double>() >= 0;
    svg << "<circle cx=\"" << x(c.at("baseline")) << "\" cy=\"" << y(c.at("best"))
        << "\" r=\"4\" fill=\"" << (up ? "#08519c" : kBaselineColor)
        << "\" fill-opacity=\"0.7\"><title>"
        << escaped(concat_text(c.at("id").get<std::string>(),
                               ": ",
                               fixed(c.at("baseline"), 4),
                               " / ",
                               fixed(c.at("best"), 4)))
        << "</title></circle>\n";
  }
  svg << "</svg>\n";
  return svg.str();
}

std::string difference_svg(const Json& comparison) {
  std::vector<std::pair<double, std::string>> differences;
  for (const Json& c : comparison.at("cases")) {
    if (c.at("difference").is_number()) differences.emplace_back(c.at("difference"), c.at("id"));
  }
  if (differences.empty()) return "";
  std::sort(differences.begin(), differences.end());
  double low = std::min(0.0, differences.front().first),
         high = std::max(0.0, differences.back().first);
  const Json& interval = comparison.at("interval");
  widen(low, high, 0.02);
  const Axis x{-0.7, static_cast<double>(differences.size()) - 0.3, 64, 344}, y{low, high, 304, 24};
  std::ostringstream svg;
  svg.precision(6);
  svg << "<svg viewBox=\"0 0 360 350\" class=\"half\" role=\"img\" aria-label=\"Differences per "
         "case\">\n";
  for (const double t : ticks(low, high, 5)) {
    svg << "<line class=\"grid\" x1=\"64\" x2=\"344\" y1=\"" << y(t) << "\" y2=\"" << y(t)
        << "\"/><text class=\"tick\" text-anchor=\"end\" x=\"58\" y=\"" << y(t) + 4 << "\">"
        << fixed(t, digits_for(ticks(low, high, 5))) << "</text>\n";
  }
  if (interval[0].is_number()) {
    const double top = y(interval[1].get<double>()), bottom = y(interval[0].get<double>());
    svg << "<rect x=\"64\" width=\"280\" y=\"" << top << "\" height=\""
        << std::max(1.0, bottom - top) << "\" fill=\"#08519c\" fill-opacity=\"0.15\"/>";
    const double m = y(comparison.at("mean_difference").get<double>());
    svg << "<line x1=\"64\" x2=\"344\" y1=\"" << m << "\" y2=\"" << m
        << "\" stroke=\"#08519c\" stroke-width=\"1.5\"/>\n";
  }
  const double width = std::min(16.0, 280.0 / static_cast<double>(differences.size()) * 0.7);
  for (std::size_t i = 0; i < differences.size(); ++i) {
    const auto& [d, id] = differences[i];
    svg << "<rect x=\"" << x(static_cast<double>(i)) - width / 2 << "\" width=\"" << width
        << "\" y=\"" << std::min(y(0), y(d)) << "\" height=\""
        << std::max(1.0, std::abs(y(d) - y(0))) << "\" fill=\""
        << (d >= 0 ? "#08519c" : kBaselineColor) << "\"><title>"
        << escaped(id + ": " + with_sign(d, 4)) << "</title></rect>\n";
  }
  svg << "<line x1=\"64\" x2=\"344\" y1=\"" << y(0) << "\" y2=\"" << y(0)
      << "\" stroke=\"#222\"/>\n"
      << "<text class=\"label\" text-anchor=\"middle\" x=\"204\" y=\"338\">cases, in order of the "
         "difference</text>"
      << "<text class=\"label\" text-anchor=\"middle\" transform=\"rotate(-90)\" x=\"-164\" "
         "y=\"14\">searched − baseline (Dice)</text>\n</svg>\n";
  return svg.str();
}

}  // namespace nas
