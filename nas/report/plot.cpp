// SPDX-License-Identifier: Apache-2.0
#include "nas/report/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "nas/report/text.h"

namespace nas {

std::vector<double> ticks(double low, double high, int count) {
  std::vector<double> result;
  if (!(high > low)) return {low};
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double candidate : {1.0, 2.0, 5.0}) {
    if (candidate * power >= rough) {
      step = candidate * power;
      break;
    }
  }
  for (double t = std::ceil(low / step) * step; t <= high + 1e-9 * step; t += step)
    result.push_back(t);
  return result;
}

int digits_for(const std::vector<double>& marks) {
  if (marks.size() < 2) return 2;
  return std::clamp(static_cast<int>(std::ceil(-std::log10(marks[1] - marks[0]) - 1e-9)), 0, 4);
}

void draw_axes(std::ostringstream& svg,
               const Axis& x,
               const Axis& y,
               const std::string& x_name,
               const std::string& y_name) {
  const auto tx = ticks(x.low, x.high, 6), ty = ticks(y.low, y.high, 5);
  for (const double t : tx) {
    svg << "<line class=\"grid\" x1=\"" << x(t) << "\" x2=\"" << x(t) << "\" y1=\"" << y.from
        << "\" y2=\"" << y.to << "\"/>"
        << "<text class=\"tick\" text-anchor=\"middle\" x=\"" << x(t) << "\" y=\"" << y.from + 16
        << "\">" << fixed(t, digits_for(tx)) << "</text>\n";
  }
  for (const double t : ty) {
    svg << "<line class=\"grid\" x1=\"" << x.from << "\" x2=\"" << x.to << "\" y1=\"" << y(t)
        << "\" y2=\"" << y(t) << "\"/>"
        << "<text class=\"tick\" text-anchor=\"end\" x=\"" << x.from - 6 << "\" y=\"" << y(t) + 4
        << "\">" << fixed(t, digits_for(ty)) << "</text>\n";
  }
  svg << "<text class=\"label\" text-anchor=\"middle\" x=\"" << (x.from + x.to) / 2 << "\" y=\""
      << y.from + 34 << "\">" << escaped(x_name) << "</text>"
      << "<text class=\"label\" text-anchor=\"middle\" transform=\"rotate(-90)\" x=\""
      << -(y.from + y.to) / 2 << "\" y=\"14\">" << escaped(y_name) << "</text>\n";
}

void widen(double& low, double& high, double least) {
  const double extra = std::max(0.06 * (high - low), (least - (high - low)) / 2);
  low -= extra;
  high += extra;
}

const char* category_color(std::size_t index) {
  constexpr std::array kColors{
      "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#6a51a3"};
  return kColors[index % kColors.size()];
}

std::string ramp_color(double share) {
  const double t = std::clamp(share, 0.0, 1.0);
  // Three stops of equal brightness steps: dark blue, green, yellow.
  constexpr double kStops[3][3] = {{48, 40, 120}, {38, 150, 130}, {250, 225, 60}};
  const int i = t < 0.5 ? 0 : 1;
  const double u = 2 * t - i;
  int rgb[3];
  for (int c = 0; c < 3; ++c) {
    rgb[c] = static_cast<int>(std::lround(kStops[i][c] + u * (kStops[i + 1][c] - kStops[i][c])));
  }
  char text[16];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
  return text;
}

}  // namespace nas
