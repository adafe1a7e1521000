// SPDX-License-Identifier: Apache-2.0
#include "experiments/curves/curve_table.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::int64_t kMostBytes = 64 << 20;
constexpr std::size_t kMostNetworks = 1000, kMostPoints = 10000, kMostCases = 10000;
constexpr double kMostEffort = 1e9;
constexpr int kDecimals = 5;  // of a score in the file

using Scores = std::vector<double> RecordedPoint::*;

Json scores_to_json(const std::vector<double>& scores) {
  const double scale = std::pow(10.0, kDecimals);
  Json list = Json::array();
  for (const double score : scores) {
    list.push_back(std::isfinite(score) ? Json(std::round(score * scale) / scale) : Json(nullptr));
  }
  return list;
}

Json points_to_json(const std::vector<RecordedPoint>& points) {
  Json list = Json::array();
  for (const RecordedPoint& p : points) {
    list.push_back({{"steps", p.steps}, {"effort", p.effort}, {"inner", scores_to_json(p.inner)}});
    if (!p.held_out.empty()) list.back()["held_out"] = scores_to_json(p.held_out);
  }
  return list;
}

double positive(const JsonReader& reader) {
  const double number = reader.number();
  NAS_CHECK(number > 0 && number <= kMostEffort,
            reader.where(),
            ": expected a number in (0, ",
            kMostEffort,
            "], found ",
            number);
  return number;
}

std::size_t bounded(const JsonReader& reader, std::size_t least, std::size_t most) {
  NAS_CHECK(reader.json().is_array() && reader.size() >= least && reader.size() <= most,
            reader.where(),
            ": expected a list of ",
            least,
            " to ",
            most,
            " items");
  return reader.size();
}

std::vector<double> scores_from_json(const JsonReader& reader, std::size_t cases) {
  bounded(reader, cases, cases);
  std::vector<double> scores;
  bool any = cases == 0;
  for (std::size_t i = 0; i < cases; ++i) {
    const JsonReader item = reader.at(i);
    scores.push_back(item.json().is_null() ? NAN : item.number());
    NAS_CHECK(!(scores.back() < 0 || scores.back() > 1),
              item.where(),
              ": expected a score in [0, 1] or null, found ",
              scores.back());
    any = any || std::isfinite(scores.back());
  }
  NAS_CHECK(any, reader.where(), ": expected one score at least, found only null");
  return scores;
}

std::vector<RecordedPoint> points_from_json(const JsonReader& reader,
                                            std::size_t least,
                                            bool held_out_needed,
                                            const CurveTable& table) {
  std::vector<RecordedPoint> points;
  for (std::size_t i = 0; i < bounded(reader, least, kMostPoints); ++i) {
    const JsonReader item = reader.at(i);
    item.check_keys({"steps", "effort", "inner", "held_out"});
    RecordedPoint p;
    p.steps = positive(item.at("steps"));
    p.effort = positive(item.at("effort"));
    p.inner = scores_from_json(item.at("inner"), table.inner_cases.size());
    if (held_out_needed || item.has("held_out")) {
      p.held_out = scores_from_json(item.at("held_out"), table.held_out_cases.size());
    }
    NAS_CHECK(points.empty() || p.effort > points.back().effort,
              item.where(),
              ".effort: expected more than ",
              points.empty() ? 0 : points.back().effort,
              " of the point before, found ",
              p.effort);
    NAS_CHECK(points.empty() || p.held_out.empty() == points.front().held_out.empty(),
              item.where(),
              ": expected held_out in all points of a curve or in none");
    points.push_back(std::move(p));
  }
  return points;
}

/// Place of `effort` among the points: value i, and how far on the way to i + 1, by log effort.
struct Place {
  std::size_t at = 0;
  double way = 0;
};
Place place_of(const std::vector<RecordedPoint>& points, double effort) {
  if (effort <= points.front().effort) return {0, 0};
  if (effort >= points.back().effort) return {points.size() - 1, 0};
  std::size_t i = 0;
  while (points[i + 1].effort <= effort) ++i;
  return {i,
          std::log(effort / points[i].effort) / std::log(points[i + 1].effort / points[i].effort)};
}

std::vector<double> scores_at(const std::vector<RecordedPoint>& points,
                              double effort,
                              Scores which) {
  const Place place = place_of(points, effort);
  std::vector<double> scores = points[place.at].*which;
  if (place.way > 0) {
    const std::vector<double>& next = points[place.at + 1].*which;
    for (std::size_t j = 0; j < scores.size(); ++j) {
      scores[j] += place.way * (next[j] - scores[j]);
    }
  }
  const double early = std::min(1.0, effort / points.front().effort);
  for (double& score : scores) score *= early;
  return scores;
}

/// What the end of a training adds to the mean, between the points where that was recorded.
double finish(const RecordedNetwork& network, double effort, Scores which) {
  if (network.decayed.empty()) return 0;
  const auto gain = [&](const RecordedPoint& p) {
    return mean_score(p.*which) - mean_score(scores_at(network.curve, p.effort, which));
  };
  const Place place = place_of(network.decayed, effort);
  const double here = gain(network.decayed[place.at]);
  return place.way > 0 ? here + place.way * (gain(network.decayed[place.at + 1]) - here) : here;
}

}  // namespace

double mean_score(const std::vector<double>& cases) {
  double sum = 0, count = 0;
  for (const double score : cases) {
    if (!std::isfinite(score)) continue;
    sum += score;
    ++count;
  }
  return count > 0 ? sum / count : NAN;
}

Json to_json(const CurveTable& table) {
  Json networks = Json::array();
  for (const RecordedNetwork& n : table.networks) {
    networks.push_back({{"name", n.name},
                        {"genotype_text", n.genotype_text},
                        {"parameters", n.parameters},
                        {"macs", n.macs},
                        {"relative_cost", n.relative_cost},
                        {"curve", points_to_json(n.curve)},
                        {"decayed", points_to_json(n.decayed)}});
  }
  return {{"format", "voxnas.curves"},
          {"version", 1},
          {"data", table.data},
          {"command", table.command},
          {"plan", table.plan},
          {"inner_cases", table.inner_cases},
          {"held_out_cases", table.held_out_cases},
          {"networks", std::move(networks)}};
}

CurveTable curve_table_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  const std::string format = reader.at("format").text();
  NAS_CHECK(format == "voxnas.curves",
            where,
            ": format: expected \"voxnas.curves\", found \"",
            format.substr(0, 64),
            "\"");
  reader.at("version").integer(1, 1);
  reader.check_keys({"format",
                     "version",
                     "data",
                     "command",
                     "plan",
                     "inner_cases",
                     "held_out_cases",
                     "networks",
                     "patch",
                     "seed",
                     "training_cases"});
  CurveTable table;
  table.data = reader.at("data").text();
  table.command = reader.at("command").text();
  bounded(reader.at("inner_cases"), 1, kMostCases);
  bounded(reader.at("held_out_cases"), 1, kMostCases);
  table.inner_cases = reader.at("inner_cases").texts();
  table.held_out_cases = reader.at("held_out_cases").texts();
  const JsonReader networks = reader.at("networks");
  const std::size_t count = bounded(networks, 1, kMostNetworks);
  table.plan =
      static_cast<std::size_t>(reader.at("plan").integer(0, static_cast<std::int64_t>(count) - 1));
  constexpr std::int64_t kMany = std::int64_t{1} << 60;
  for (std::size_t i = 0; i < count; ++i) {
    const JsonReader item = networks.at(i);
    item.check_keys({"name",
                     "genotype_text",
                     "graph_id",
                     "space",
                     "parameters",
                     "macs",
                     "relative_cost",
                     "curve",
                     "decayed"});
    RecordedNetwork n;
    n.name = item.at("name").text();
    n.genotype_text = item.at("genotype_text").text();
    n.parameters = item.at("parameters").integer(1, kMany);
    n.macs = item.at("macs").integer(1, kMany);
    n.relative_cost = positive(item.at("relative_cost"));
    n.curve = points_from_json(item.at("curve"), 1, false, table);
    const bool ends_needed = n.curve.front().held_out.empty();
    n.decayed = points_from_json(item.at("decayed"), ends_needed ? 1 : 0, true, table);
    table.networks.push_back(std::move(n));
  }
  return table;
}

CurveTable read_curve_table(const std::filesystem::path& file) {
  return curve_table_from_json(read_json(file, kMostBytes), file.string());
}

std::vector<double> inner_scores(const RecordedNetwork& network, double effort) {
  return scores_at(network.curve, effort, &RecordedPoint::inner);
}

double delivered_score(const RecordedNetwork& network, double effort) {
  if (network.curve.front().held_out.empty()) {
    return mean_score(scores_at(network.decayed, effort, &RecordedPoint::held_out));
  }
  return mean_score(scores_at(network.curve, effort, &RecordedPoint::held_out)) +
         std::min(1.0, effort / network.curve.front().effort) *
             finish(network, effort, &RecordedPoint::held_out);
}

double inner_finish(const RecordedNetwork& network, double effort) {
  return std::min(1.0, effort / network.curve.front().effort) *
         finish(network, effort, &RecordedPoint::inner);
}

}  // namespace nas
