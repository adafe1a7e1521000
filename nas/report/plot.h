// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <string>
#include <vector>

/// Axes of the report's SVG plots, for the files of the report (report*.cpp) alone.
namespace nas {

inline constexpr const char* kBaselineColor = "#d95f02";

/// A linear scale from data to pixels.
struct Axis {
  double low = 0, high = 1, from = 0, to = 1;  // data and pixels
  double operator()(double value) const {
    return from + (to - from) * (high > low ? (value - low) / (high - low) : 0.5);
  }
};

/// About `count` round numbers within [low, high].
std::vector<double> ticks(double low, double high, int count);
/// Decimals that tell neighbouring marks apart.
int digits_for(const std::vector<double>& marks);
/// Grid, numbers and names of both axes.
void draw_axes(std::ostringstream& svg,
               const Axis& x,
               const Axis& y,
               const std::string& x_name,
               const std::string& y_name);
/// Adds a margin on both sides, so that the range is at least `least` wide.
void widen(double& low, double& high, double least);

/// A colour of a fixed palette that people with colour blindness can tell apart (Okabe and Ito).
const char* category_color(std::size_t index);
/// Dark blue for 0, yellow for 1.
std::string ramp_color(double share);

}  // namespace nas
