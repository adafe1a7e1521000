// SPDX-License-Identifier: Apache-2.0
#include "nas/search/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/extent.h"
#include "nas/core/files.h"
#include "nas/core/progress.h"
#include "nas/network/drawing.h"
#include "nas/network/graph.h"
#include "nas/search/results_db.h"
#include "nas/search/statistics.h"
#include "search_spaces/plan.h"
#include "training/imaging/dataset.h"
#include "training/imaging/nifti.h"
#include "training/imaging/png.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

// ---- numbers and text ----

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  const std::string_view result = text;
  if (result[0] == '-' && result.find_first_not_of("-0.") == result.npos) return text + 1;
  return text;
}
std::string with_sign(double value, int digits) {
  return (value >= 0 ? "+" : "") + fixed(value, digits);
}
std::string p_text(double p) { return p < 0.0001 ? "p < 0.0001" : "p = " + fixed(p, 4); }

/// A member that may be missing or null.
double number_or(const Json& object, const char* key, double otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : otherwise;
}
std::string text_or(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}
/// An object or array below `key`; null if it is missing. Databases hold what older runs and users
/// put there.
const Json& part(const Json& value, const char* key) {
  static const Json nothing;
  if (!value.is_object()) return nothing;
  const auto found = value.find(key);
  return found == value.end() ? nothing : *found;
}
Json finite(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string code_of_steps(const Json& steps) {
  std::string text;
  for (const Json& s : steps) text += (text.empty() ? "" : ", ") + s.dump();
  return text;
}

std::string join(const Json& words, const char* separator = ", ") {
  std::string text;
  for (const Json& word : words) {
    text += (text.empty() ? "" : separator) +
            (word.is_string() ? word.get<std::string>() : word.dump());
  }
  return text;
}

// ---- data ----

double mean_dice(const Json& one_case) {
  double sum = 0;
  int count = 0;
  for (const Json& c : part(one_case, "classes")) {
    if (part(c, "dice").is_number()) {
      sum += c.at("dice").get<double>();
      ++count;
    }
  }
  return count > 0 ? sum / count : 1;  // nothing to find and nothing found
}

Json trial_json(const Trial& t) {
  Json j = {{"id", t.id},
            {"stage", t.stage},
            {"purpose", to_text(t.purpose)},
            {"label", t.label},
            {"rung", t.rung},
            {"genotype", t.genotype_text},
            {"genotype_id", t.genotype_id},
            {"graph_id", t.graph_id},
            {"parameters", t.parameters},
            {"macs", t.macs},
            {"memory_bytes", t.memory_bytes},
            {"steps", t.steps},
            {"steps_done", t.evaluation.steps},
            {"seed", t.seed},
            {"attempts", t.attempt},
            {"status", to_text(t.status)},
            {"score", t.status == TrialStatus::Done ? finite(t.evaluation.score) : Json(nullptr)},
            {"how", t.evaluation.how},
            {"seconds", t.evaluation.seconds},
            {"metrics", t.evaluation.metrics},
            {"message", t.evaluation.message},
            {"started", t.started},
            {"ended", t.ended}};
  j["settings"] = t.settings.empty() ? Json(nullptr) : parse_json(t.settings, "settings");
  return j;
}

Json fingerprint_summary(const Json& fingerprint) {
  Json result = Json::object();
  auto medians = [](const Json& triples) {
    Json medians_of_axes = Json::array();
    for (std::size_t axis = 0; axis < 3; ++axis) {
      std::vector<double> values;
      for (const Json& triple : triples) {
        if (triple.is_array() && triple.size() == 3) values.push_back(triple[axis].get<double>());
      }
      medians_of_axes.push_back(finite(median(values)));
    }
    return medians_of_axes;
  };
  result["cases"] = part(fingerprint, "spacings").size();
  result["median_spacing_mm"] = medians(part(fingerprint, "spacings"));
  result["median_shape"] = medians(part(fingerprint, "shapes_after_crop"));
  result["relative_size_after_cropping"] = part(fingerprint, "median_relative_size_after_cropping");
  result["intensity"] = part(fingerprint, "foreground_intensity_properties_per_channel");
  return result;
}

/// Means per class and overall of one final training.
Json class_means(const Json& details) {
  Json result = Json::array();
  for (const Json& mean : part(details, "mean")) result.push_back(mean);
  return result;
}

Json compare(const Json& best, const Json& baseline, std::uint64_t seed) {
  std::map<std::string, const Json*> other;
  for (const Json& c : part(baseline, "cases")) other[text_or(c, "id")] = &c;
  std::vector<double> a, b;
  Json cases = Json::array();
  for (const Json& c : part(best, "cases")) {
    const auto found = other.find(text_or(c, "id"));
    if (found == other.end()) continue;
    a.push_back(mean_dice(c));
    b.push_back(mean_dice(*found->second));
    cases.push_back({{"id", text_or(c, "id")},
                     {"best", a.back()},
                     {"baseline", b.back()},
                     {"difference", a.back() - b.back()},
                     {"best_classes", part(c, "classes")},
                     {"baseline_classes", part(*found->second, "classes")}});
  }
  const PairedComparison c = compare_paired(a, b, seed);
  return {{"cases", std::move(cases)},
          {"best_mean", finite(mean(a))},
          {"baseline_mean", finite(mean(b))},
          {"best_sd", finite(standard_deviation(a))},
          {"baseline_sd", finite(standard_deviation(b))},
          {"mean_difference", c.mean_difference},
          {"interval", {finite(c.interval.low), finite(c.interval.high)}},
          {"wilcoxon_p", c.wilcoxon.p_value},
          {"wilcoxon_pairs", c.wilcoxon.pairs},
          {"wilcoxon_exact", c.wilcoxon.exact},
          {"verdict", c.verdict},
          {"best_classes", class_means(best)},
          {"baseline_classes", class_means(baseline)}};
}

std::string verdict_sentence(const Json& data) {
  const Json& final_trials = data.at("final");
  const bool has_best = final_trials.contains("best"),
             has_baseline = final_trials.contains("baseline");
  if (data.contains("comparison")) {
    const Json& c = data.at("comparison");
    const std::string verdict = c.at("verdict");
    const std::size_t cases = c.at("cases").size();
    std::string text = concat_text(
        "On the ",
        cases,
        " held-out cases the searched network (mean Dice ",
        fixed(number_or(c, "best_mean", NAN), 4),
        ") is ",
        verdict == "not distinguishable" ? "not distinguishable from" : verdict + " than",
        " the planned baseline (",
        fixed(number_or(c, "baseline_mean", NAN), 4),
        "): mean difference ",
        with_sign(c.at("mean_difference").get<double>(), 4));
    if (c.at("interval")[0].is_number()) {
      text += concat_text(", 95 % interval [",
                          with_sign(c.at("interval")[0].get<double>(), 4),
                          ", ",
                          with_sign(c.at("interval")[1].get<double>(), 4),
                          "], Wilcoxon ",
                          p_text(c.at("wilcoxon_p").get<double>()));
    }
    return text + "." + (cases < 5 ? " So few cases allow no verdict." : "");
  }
  if (!has_best && !has_baseline) {
    return concat_text("The search is not finished: ", data.at("trials").size(), " trials so far.");
  }
  const Json& only = has_best ? final_trials.at("best") : final_trials.at("baseline");
  const std::string score = fixed(number_or(only, "score", NAN), 4);
  if (has_best) {
    return concat_text("The searched network reaches a mean Dice of ",
                       score,
                       " on the held-out cases; the planned baseline has not finished, so there is "
                       "nothing to compare.");
  }
  if (data.at("best_is_baseline").get<bool>()) {
    return concat_text(
        "The search found nothing better than the planned network on the inner validation cases, "
        "so the planned "
        "network is delivered: mean Dice ",
        score,
        " on the held-out cases.");
  }
  return concat_text(
      "The final training of the searched network did not finish; the planned network is "
      "delivered: mean Dice ",
      score,
      " on the held-out cases.");
}

// ---- a small builder of HTML: everything that goes through text() is escaped ----

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        // Control characters are not allowed in HTML.
        result += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return result;
}

class Html {
 public:
  Html& raw(std::string_view markup) {
    out_ << markup;
    return *this;
  }
  Html& text(std::string_view content) {
    out_ << escaped(content);
    return *this;
  }
  Html& element(const char* tag, std::string_view content, const char* attributes = "") {
    out_ << '<' << tag << (*attributes != 0 ? " " : "") << attributes << '>' << escaped(content)
         << "</" << tag << ">\n";
    return *this;
  }
  /// \param classes one letter per column: 'l' left, 'r' right (numbers).
  Html& table(const std::vector<std::string>& head,
              const std::vector<std::vector<std::string>>& rows,
              std::string_view columns,
              const std::function<const char*(std::size_t)>& row_class = {}) {
    out_ << "<div class=\"scroll\"><table>\n<thead><tr>";
    for (std::size_t i = 0; i < head.size(); ++i) cell("th", head[i], columns, i);
    out_ << "</tr></thead>\n<tbody>\n";
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const char* name = row_class ? row_class(r) : "";
      out_ << (*name != 0 ? concat_text("<tr class=\"", name, "\">") : "<tr>");
      for (std::size_t i = 0; i < rows[r].size(); ++i) cell("td", rows[r][i], columns, i);
      out_ << "</tr>\n";
    }
    out_ << "</tbody></table></div>\n";
    return *this;
  }
  std::string str() const { return out_.str(); }

 private:
  void cell(const char* tag, const std::string& content, std::string_view columns, std::size_t i) {
    const bool right = i < columns.size() && columns[i] == 'r';
    out_ << '<' << tag << (right ? " class=\"n\">" : ">") << escaped(content) << "</" << tag << '>';
  }
  std::ostringstream out_;
};

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<std::uint8_t>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      result += k <= count ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return result;
}

// ---- plots ----

constexpr const char* kRungColors[] = {"#9ecae1", "#4292c6", "#08519c", "#08306b"};
constexpr const char* kBaselineColor = "#d95f02";

struct Axis {
  double low = 0, high = 1, from = 0, to = 1;  // data and pixels
  double operator()(double value) const {
    return from + (to - from) * (high > low ? (value - low) / (high - low) : 0.5);
  }
};

/// About `count` round numbers within [low, high].
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

/// All search trials by the time of their end, and the best so far as a stair.
std::string search_curve_svg(const Json& data) {
  const bool clock = data.at("budget").at("seconds").get<double>() > 0;
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
                                  t.at("genotype").get<std::string>(),
                                  ", Dice ",
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
  svg << "<svg viewBox=\"0 0 720 280\" role=\"img\" aria-label=\"Search curve\">\n";
  draw_axes(svg, x, y, clock ? "minutes since the start" : "trial", "Dice, inner validation");
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
  svg << "</svg>\n<p class=\"legend\">";
  for (int r = 0; r <= std::min(rungs, 3); ++r) {
    svg << "<span><i style=\"background:" << kRungColors[r] << "\"></i>rung " << r << "</span>";
  }
  svg << "<span><i style=\"border:3px solid " << kBaselineColor
      << "\"></i>planned baseline</span><span><i class=\"line\"></i>best so far</span></p>\n";
  return svg.str();
}

/// One dot a case: baseline against searched; above the diagonal the searched network is better.
std::string scatter_svg(const Json& comparison) {
  double low = 1, high = 0;
  for (const Json& c : comparison.at("cases")) {
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

/// The differences in order of size, and their mean with its interval.
std::string difference_svg(const Json& comparison) {
  std::vector<std::pair<double, std::string>> differences;
  for (const Json& c : comparison.at("cases"))
    differences.emplace_back(c.at("difference"), c.at("id"));
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

// ---- parts of the page ----

using Rows = std::vector<std::vector<std::string>>;

std::string count_text(const Json& value) {
  return value.is_number() ? format_count(value.get<double>()) : "–";
}

Rows trial_rows(const Json& data) {
  Rows rows;
  for (const Json& t : data.at("trials")) {
    const std::string label = t.at("label");
    rows.push_back(
        {t.at("id").dump(),
         t.at("stage").get<std::string>() +
             (t.at("purpose") == "search" ? " / " + t.at("rung").dump() : ""),
         t.at("genotype").get<std::string>() + (label.empty() ? "" : " (" + label + ")"),
         count_text(t.at("parameters")),
         count_text(t.at("macs")),
         t.at("steps_done").dump(),
         t.at("score").is_number() ? fixed(t.at("score"), 4) : "–",
         t.at("status").get<std::string>(),
         data.at("budget").at("seconds").get<double>() > 0 || t.at("seconds").get<double>() > 0
             ? format_duration(t.at("seconds"))
             : "–"});
  }
  return rows;
}
const std::vector<std::string> kTrialHead{
    "trial", "stage / rung", "network", "parameters", "MACs", "steps", "Dice", "status", "time"};

/// Gene by gene where the searched network differs from the planned one.
Rows gene_rows(const Json& data) {
  auto genes_of = [](const std::string& text) {
    std::vector<std::pair<std::string, std::string>> genes;
    std::istringstream in(text);
    for (std::string word; in >> word;) {
      const auto split = word.find('=');
      genes.emplace_back(word.substr(0, split),
                         split == std::string::npos ? "" : word.substr(split + 1));
    }
    return genes;
  };
  const Json& final_trials = data.at("final");
  if (!final_trials.contains("best") || !final_trials.contains("baseline")) return {};
  const auto best = genes_of(final_trials.at("best").at("genotype")),
             planned = genes_of(final_trials.at("baseline").at("genotype"));
  Rows rows;
  for (std::size_t i = 0; i < std::min(best.size(), planned.size()); ++i) {
    rows.push_back({best[i].first,
                    planned[i].second,
                    best[i].second,
                    best[i].second == planned[i].second ? "" : "changed"});
  }
  return rows;
}

struct Table {
  std::vector<std::string> head;
  Rows rows;
  std::string columns;  // one letter each: 'l' left, 'r' right
};

/// The final trainings that there are, with the words for them.
std::vector<std::pair<std::string, std::string>> finals(const Json& data) {
  std::vector<std::pair<std::string, std::string>> result;
  for (const auto& [label, word] :
       {std::pair{"best", "searched"}, std::pair{"baseline", "baseline"}}) {
    if (data.at("final").contains(label)) result.emplace_back(label, word);
  }
  return result;
}

Table network_table(const Json& data) {
  Table table{{""}, {}, "l"};
  const auto who = finals(data);
  for (const auto& [label, word] : who) {
    table.head.push_back(word);
    table.columns += 'r';
  }
  auto row = [&](const char* name, const std::function<std::string(const Json&)>& text) {
    std::vector<std::string> cells{name};
    for (const auto& [label, word] : who) cells.push_back(text(data.at("final").at(label)));
    table.rows.push_back(std::move(cells));
  };
  auto setting = [](const Json& t, const char* key) {
    const Json& value = part(part(t, "settings"), key);
    return value.is_null()     ? std::string("–")
           : value.is_string() ? value.get<std::string>()
                               : value.dump();
  };
  if (who.empty()) return table;
  row("parameters", [](const Json& t) { return count_text(t.at("parameters")); });
  row("MACs of one patch", [](const Json& t) { return count_text(t.at("macs")); });
  row("memory of a step (forecast)",
      [](const Json& t) { return format_bytes(t.at("memory_bytes").get<double>()); });
  row("training steps", [](const Json& t) { return t.at("steps_done").dump(); });
  row("batch", [&](const Json& t) { return setting(t, "batch"); });
  row("optimizer, learning rate",
      [&](const Json& t) { return setting(t, "optimizer") + ", " + setting(t, "learning_rate"); });
  row("training time", [](const Json& t) {
    return format_duration(number_or(t.at("metrics"), "train_seconds", 0));
  });
  row("time a step", [](const Json& t) {
    const double steps = t.at("steps_done").get<double>();
    return steps > 0 ? format_duration(number_or(t.at("metrics"), "train_seconds", 0) / steps)
                     : std::string("–");
  });
  return table;
}

Table class_table(const Json& data) {
  struct Column {
    const char *name, *key;
    int digits;
  };
  Table table{{"class"}, {}, "l"};
  std::map<std::string, std::size_t> place;
  for (const Column& column :
       {Column{"Dice", "dice", 4}, {"HD95 mm", "hd95_mm", 2}, {"NSD 1 mm", "nsd", 4}}) {
    for (const auto& [label, word] : finals(data)) {
      table.head.push_back(concat_text(column.name, ", ", word));
      table.columns += 'r';
      for (const Json& mean : part(data.at("final").at(label), "classes")) {
        const std::string name = text_or(mean, "label");
        if (place.try_emplace(name, table.rows.size()).second) table.rows.push_back({name});
        std::vector<std::string>& row = table.rows[place.at(name)];
        row.resize(table.head.size(), "–");
        row.back() = fixed(number_or(mean, column.key, NAN), column.digits);
      }
    }
  }
  return table;
}

Rows case_rows(const Json& comparison) {
  std::vector<const Json*> order;
  for (const Json& c : comparison.at("cases")) order.push_back(&c);
  std::stable_sort(order.begin(), order.end(), [](const Json* a, const Json* b) {
    return a->at("best") < b->at("best");
  });
  auto mean_of = [](const Json& classes, const char* key) {
    std::vector<double> values;
    for (const Json& c : classes) {
      if (part(c, key).is_number()) values.push_back(c.at(key).get<double>());
    }
    return mean(values);
  };
  Rows rows;
  for (const Json* c : order) {
    rows.push_back({c->at("id"),
                    fixed(c->at("best"), 4),
                    fixed(c->at("baseline"), 4),
                    with_sign(c->at("difference"), 4),
                    fixed(mean_of(c->at("best_classes"), "hd95_mm"), 2),
                    fixed(mean_of(c->at("baseline_classes"), "hd95_mm"), 2),
                    fixed(mean_of(c->at("best_classes"), "nsd"), 4),
                    fixed(mean_of(c->at("baseline_classes"), "nsd"), 4)});
  }
  return rows;
}

Rows budget_rows(const Json& data) {
  const bool clock = data.at("budget").at("seconds").get<double>() > 0;
  const Json& forecast = part(data.at("forecast"), "stages");
  Rows rows;
  if (clock && part(data.at("forecast"), "probe").is_object()) {
    rows.push_back(
        {"preparation and probe",
         "–",
         format_duration(number_or(data.at("forecast").at("probe"), "prepared_seconds", 0)),
         "–",
         "–"});
  }
  for (const Json& stage : data.at("stages")) {
    std::string planned_time = "–", planned_steps = "–";
    for (const Json& f : forecast) {
      if (text_or(f, "name") != stage.at("name").get<std::string>()) continue;
      if (clock) planned_time = format_duration(number_or(f, "seconds", 0));
      planned_steps = code_of_steps(part(f, "steps"));
    }
    std::vector<std::string> done;
    for (const Json& t : data.at("trials")) {
      if (t.at("stage") == stage.at("name") && t.at("status") == "done")
        done.push_back(t.at("steps_done").dump());
    }
    std::string steps;
    for (const std::string& d : done) steps += (steps.empty() ? "" : ", ") + d;
    rows.push_back(
        {stage.at("name").get<std::string>(),
         planned_time,
         clock && stage.at("ended").get<double>() > 0
             ? format_duration(stage.at("ended").get<double>() - stage.at("started").get<double>())
             : "–",
         planned_steps,
         steps});
  }
  if (clock) {
    rows.push_back({"whole command",
                    format_duration(data.at("budget").at("seconds")),
                    format_duration(data.at("clock")),
                    "",
                    ""});
  }
  return rows;
}

Rows data_rows(const Json& data) {
  const Json& d = data.at("data");
  const Json& f = data.at("fingerprint");
  const Json& plan = data.at("plan");
  auto triple = [](const Json& values, int digits) {
    std::string text;
    for (const Json& v : values)
      text += (text.empty() ? "" : " × ") +
              (v.is_number() ? fixed(v.get<double>(), digits) : std::string("–"));
    return text;
  };
  return {{"data set", text_or(d, "name") + " (" + text_or(d, "layout") + ")"},
          {"channels", join(part(d, "channels"))},
          {"labels", join(part(d, "labels"))},
          {"cases",
           concat_text(part(data.at("cases"), "training").size(),
                       " training (",
                       part(data.at("cases"), "inner_validation").size(),
                       " of them validate search trials), ",
                       part(data.at("cases"), "held_out").size(),
                       " held out: fold ",
                       data.at("fold").dump(),
                       " of ",
                       text_or(d, "splits"))},
          {"median spacing, D × H × W", triple(f.at("median_spacing_mm"), 2) + " mm"},
          {"median size after cropping", triple(f.at("median_shape"), 0) + " voxels"},
          {"plan",
           concat_text("patch ",
                       join(part(plan, "patch"), " × "),
                       ", batch ",
                       part(plan, "batch").dump(),
                       ", spacing ",
                       triple(part(plan, "spacing"), 2),
                       " mm, ",
                       join(part(plan, "normalization")))}};
}

// ---- pictures ----

struct PickedCase {
  std::string rank, id;
  double dice = 0;
  const Json* classes = nullptr;
};

/// Worst, median and best held-out case of the delivered network.
std::vector<PickedCase> picked_cases(const Json& delivered) {
  std::vector<PickedCase> all;
  for (const Json& c : part(delivered, "cases"))
    all.push_back({"", text_or(c, "id"), mean_dice(c), &part(c, "classes")});
  std::stable_sort(all.begin(), all.end(), [](const PickedCase& a, const PickedCase& b) {
    return a.dice < b.dice;
  });
  if (all.empty()) return {};
  if (all.size() == 1) {
    all[0].rank = "The only case";
    return all;
  }
  std::vector<PickedCase> picked{all.front()};
  picked.back().rank = "Worst case";
  if (all.size() > 2) {
    picked.push_back(all[all.size() / 2]);
    picked.back().rank = "Median case";
  }
  picked.push_back(all.back());
  picked.back().rank = "Best case";
  return picked;
}

std::string png_image(const Picture& picture, const std::string& alt) {
  return concat_text("<img alt=\"",
                     escaped(alt),
                     "\" src=\"data:image/png;base64,",
                     base64(encode_png(picture)),
                     "\">\n");
}

void add_pictures(Html& page,
                  const fs::path& run_folder,
                  const Json& data,
                  const Json& delivered,
                  const std::string& label) {
  const std::vector<PickedCase> picked = picked_cases(delivered);
  if (picked.empty()) return;
  page.element("h2", "Worst, median and best case");
  page.raw(
      "<p>Held-out cases of the delivered network. Dashed: reference; solid: prediction.</p>\n<p "
      "class=\"legend\">");
  const Json& labels = part(data.at("data"), "labels");
  for (std::size_t k = 1; k < labels.size(); ++k) {
    const auto color = class_color(static_cast<std::int64_t>(k));
    page.raw(concat_text("<span><i style=\"background:rgb(",
                         int{color[0]},
                         ",",
                         int{color[1]},
                         ",",
                         int{color[2]},
                         ")\"></i>",
                         escaped(labels[k].get<std::string>()),
                         "</span>"));
  }
  page.raw("</p>\n");
  try {
    const DataSet set = open_data_set(data.at("data_folder").get<std::string>());
    for (const PickedCase& c : picked) {
      const CaseFiles& files = set.find(c.id);
      const Image image = read_case_image(set, files);
      const LabelMap reference = read_case_label(set, files);
      const LabelMap prediction =
          read_nifti_label(run_folder / "predictions" / label / (c.id + ".nii.gz"));
      std::string caption = concat_text(c.rank, ": ", c.id, ", mean Dice ", fixed(c.dice, 4));
      for (const Json& k : *c.classes)
        caption += concat_text(", ", text_or(k, "label"), " ", fixed(number_or(k, "dice", NAN), 4));
      page.raw("<figure><div class=\"planes\">\n");
      constexpr const char* kPlanes[] = {"axial", "coronal", "sagittal"};
      for (int axis = 0; axis < 3; ++axis) {
        SliceOptions options;
        options.axis = axis;
        options.index = fullest_slice(reference, axis);
        page.raw(png_image(render_slice(image, options, &reference, &prediction),
                           concat_text(c.id, ", ", kPlanes[axis])));
      }
      page.raw("</div>").element("figcaption", caption).raw("</figure>\n");
    }
  } catch (const Error& error) {
    page.element("p", concat_text("No pictures: ", error.what()), "class=\"note\"");
  }
}

void add_drawing(Html& page, const fs::path& run_folder, const Json& data) {
  const fs::path network = run_folder / "model" / "network.json";
  if (!fs::exists(network)) return;
  page.element("h2", "The delivered network");
  const fs::path drawing = temporary_name(run_folder / "network.svg").string() + ".svg";
  try {
    const Graph graph = read_graph(network.string());
    Extent3 patch{};
    for (std::size_t i = 0; i < 3; ++i)
      patch[i] = part(data.at("plan"), "patch").at(i).get<std::int64_t>();
    write_drawing(graph, patch, drawing);
    const std::string svg = read_file(drawing, 32 << 20);
    page.raw(concat_text("<details><summary>Drawing (",
                         graph.nodes.size(),
                         " nodes)</summary>\n<img class=\"network\" alt=\"network\" "
                         "src=\"data:image/svg+xml;base64,",
                         base64(svg),
                         "\"></details>\n"));
  } catch (const Error& error) {
    page.element("p", concat_text("No drawing: ", error.what()), "class=\"note\"");
  }
  std::error_code ignored;
  fs::remove(drawing, ignored);
}

constexpr const char* kStyle = R"css(
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #d5dae0; }
.sub { color: #59636e; margin: 0 0 1.2rem; }
.verdict { font-size: 1.1rem; padding: .8rem 1rem; border-left: 5px solid #8c959f; background: #f5f7f9; }
.verdict.better { border-color: #08519c; } .verdict.worse { border-color: #d95f02; }
.note { color: #59636e; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tiles div { flex: 1 1 9rem; border: 1px solid #d5dae0; border-radius: 6px; padding: .5rem .8rem; }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tiles span { color: #59636e; font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .28rem .6rem; border-bottom: 1px solid #e6e9ed; vertical-align: top; }
th { color: #59636e; font-weight: 600; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } th.n { white-space: normal; }
tr.chosen td { background: #eaf2fb; font-weight: 600; } tr.baseline td { background: #fdf1e7; } tr.failed td { color: #a40e26; }
svg { width: 100%; height: auto; } svg.half { width: 49%; min-width: 18rem; }
.grid { stroke: #e6e9ed; } .tick { font-size: 11px; fill: #59636e; } .label { font-size: 12px; fill: #1b1f24; }
.stair { fill: none; stroke: #1b1f24; stroke-width: 1.5; stroke-dasharray: 5 3; } .diagonal { stroke: #8c959f; stroke-dasharray: 4 3; }
.legend span { margin-right: 1.2rem; white-space: nowrap; font-size: .88rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .35rem; vertical-align: -1px; box-sizing: border-box; }
.legend i.line { border-radius: 0; height: 0; border-top: 2px dashed #1b1f24; vertical-align: 4px; width: 1.4rem; }
figure { margin: 0 0 1.2rem; break-inside: avoid; }
.planes { display: flex; gap: .5rem; align-items: center; background: #000; padding: .5rem; }
.planes img { flex: 1 1 0; min-width: 0; max-width: 33%; max-height: 20rem; object-fit: contain; image-rendering: auto; }
figcaption { font-size: .88rem; color: #59636e; padding-top: .3rem; }
pre { background: #f5f7f9; padding: .7rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.network { max-width: 100%; }
summary { cursor: pointer; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; } details { display: block; } }
)css";

}  // namespace

Json report_data(const fs::path& run_folder) {
  const ResultsDb db = ResultsDb::open(run_folder / "results.sqlite");
  const std::string where = db.file().string();
  const RunRecord run = db.run();
  const Json setup = parse_json(run.setup_json, where);
  const std::vector<Trial> trials = db.trials();
  Json data = {{"command", run.command},
               {"data_folder", run.data_folder},
               {"fold", run.fold},
               {"seed", run.seed},
               {"code_version", run.code_version},
               {"created_unix", run.created_unix},
               {"clock", db.clock()},
               {"budget",
                {{"seconds", run.budget.seconds},
                 {"steps", run.budget.steps},
                 {"text", to_text(run.budget)}}},
               {"recipe", parse_json(run.recipe_json, where)},
               {"data", part(setup, "data").is_object() ? part(setup, "data") : Json::object()},
               {"cases", part(setup, "cases")},
               {"forecast", part(setup, "forecast")},
               {"fingerprint", fingerprint_summary(part(setup, "fingerprint"))}};
  data["plan"] = Json::object();
  const Json plan = parse_json(run.plan_json, where);
  if (plan.is_object() && !plan.empty()) {
    const Plan planned = plan_from_json(plan, where);
    const Configuration& c = planned.configuration("3d_fullres");
    data["plan"] = {{"patch", c.patch},
                    {"batch", c.batch},
                    {"spacing", c.spacing},
                    {"normalization", c.normalization}};
  }
  data["stages"] = Json::array();
  for (const StageRecord& s : db.stages()) {
    data["stages"].push_back({{"name", s.name},
                              {"status", s.status},
                              {"seconds", s.budget.seconds},
                              {"steps", s.budget.steps},
                              {"trials", s.budget.trials},
                              {"rungs", s.budget.rungs},
                              {"started", s.started},
                              {"ended", s.ended}});
  }
  data["trials"] = Json::array();
  data["final"] = Json::object();
  std::map<std::string, Json> details;
  bool searched_best = false;
  for (const Trial& t : trials) {
    data["trials"].push_back(trial_json(t));
    if (t.purpose != TrialPurpose::Retrain) continue;
    searched_best |= t.label == "best";
    if (t.status != TrialStatus::Done || t.evaluation.details.empty()) continue;
    details[t.label] = parse_json(t.evaluation.details, where);
    Json row = trial_json(t);
    row["classes"] = class_means(details[t.label]);
    row["cases"] = part(details[t.label], "cases");
    data["final"][t.label] = std::move(row);
  }
  const auto best = best_search_trial(trials);
  data["best_trial"] = best ? Json(best->id) : Json(nullptr);
  data["best_is_baseline"] = !searched_best;
  data["delivered"] = delivered_label(trials);
  if (details.contains("best") && details.contains("baseline")) {
    data["comparison"] = compare(details.at("best"), details.at("baseline"), run.seed);
  }
  data["verdict"] = verdict_sentence(data);
  if (details.contains("best") && details.contains("baseline")) {
    data["verdict"] = concat_text(data["verdict"].get<std::string>(),
                                  " Delivered, by the inner validation cases: the ",
                                  data["delivered"] == "best" ? "searched" : "planned",
                                  " network.");
  }
  return data;
}

std::string html_report(const fs::path& run_folder, const ReportOptions& options) {
  const Json data = report_data(run_folder);
  const std::string name = text_or(data.at("data"), "name");
  Html page;
  page.raw(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\">\n");
  page.element("title", "VoxNAS: " + name)
      .raw("<style>")
      .raw(kStyle)
      .raw("</style></head><body>\n");
  page.element("h1", name.empty() ? "Search" : name);
  page.element("p",
               concat_text("VoxNAS ",
                           data.at("code_version").get<std::string>(),
                           " · recipe ",
                           text_or(data.at("recipe"), "name"),
                           " · budget ",
                           data.at("budget").at("text").get<std::string>(),
                           " · seed ",
                           data.at("seed").dump()),
               "class=\"sub\"");
  const bool compared = data.contains("comparison");
  const std::string verdict =
      compared ? data.at("comparison").at("verdict").get<std::string>() : "";
  page.element("p",
               data.at("verdict").get<std::string>(),
               verdict == "better"  ? "class=\"verdict better\""
               : verdict == "worse" ? "class=\"verdict worse\""
                                    : "class=\"verdict\"");
  const std::string delivered = data.at("delivered");
  if (verdict == "worse" || verdict == "better") {
    page.element(
        "p",
        "The delivered model was chosen by the inner validation cases alone, which neither "
        "network learned from; both lie in the run folder, as best and baseline.",
        "class=\"note\"");
  }
  if (!delivered.empty()) {
    const Json& t = data.at("final").at(delivered);
    page.raw("<div class=\"tiles\">");
    auto tile = [&](const std::string& value, const std::string& what) {
      page.raw("<div>").element("b", value).element("span", what).raw("</div>");
    };
    tile(fixed(number_or(t, "score", NAN), 4),
         concat_text("mean Dice, ", part(t, "cases").size(), " held-out cases"));
    tile(count_text(t.at("parameters")), "parameters");
    tile(count_text(t.at("macs")), "multiply-adds a patch");
    tile(data.at("budget").at("seconds").get<double>() > 0 ? format_duration(data.at("clock"))
                                                           : t.at("steps_done").dump(),
         data.at("budget").at("seconds").get<double>() > 0
             ? "of " + data.at("budget").at("text").get<std::string>()
             : "steps of training");
    page.raw("</div>\n");
  }

  if (compared) {
    const Json& c = data.at("comparison");
    page.element("h2", "Searched network against the planned baseline");
    page.element("p",
                 concat_text("Both were trained on all training cases of the fold with equal "
                             "shares of the budget and compared case by case. Mean difference ",
                             with_sign(c.at("mean_difference").get<double>(), 4),
                             " (shaded: 95 % interval by paired bootstrap over cases); Wilcoxon "
                             "signed-rank test over ",
                             c.at("wilcoxon_pairs").dump(),
                             " pairs that differ, two-sided, ",
                             c.at("wilcoxon_exact").get<bool>() ? "exact" : "normal approximation",
                             ": ",
                             p_text(c.at("wilcoxon_p").get<double>()),
                             "."));
    page.raw(scatter_svg(c)).raw(difference_svg(c));
  }
  if (const Table t = class_table(data); !t.rows.empty()) {
    page.element("h2", "Held-out cases by class").table(t.head, t.rows, t.columns);
  }
  if (options.pictures && !delivered.empty())
    add_pictures(page, run_folder, data, data.at("final").at(delivered), delivered);

  page.element("h2", "Search");
  page.raw(search_curve_svg(data));
  page.element("p",
               "Trials of one rung trained alike on the inner training cases; later rungs train "
               "longer. Scores of different rungs compare different amounts of training.",
               "class=\"note\"");
  std::vector<const char*> classes;
  for (const Json& t : data.at("trials")) {
    const std::string status = t.at("status");
    classes.push_back(status != "done" && status != "running" && status != "queued"    ? "failed"
                      : t.at("id") == data.at("best_trial") || t.at("label") == "best" ? "chosen"
                      : t.at("label") == "baseline"                                    ? "baseline"
                                                                                       : "");
  }
  page.table(kTrialHead, trial_rows(data), "rllrrrrlr", [&](std::size_t r) { return classes[r]; });
  for (const Json& t : data.at("trials")) {
    if (const std::string message = t.at("message"); !message.empty()) {
      page.element("p", concat_text("Trial ", t.at("id").dump(), ": ", message), "class=\"note\"");
    }
  }
  if (const Rows genes = gene_rows(data); !genes.empty()) {
    page.element("h2", "What the search changed");
    page.table({"gene", "planned", "searched", ""}, genes, "llll", [&](std::size_t r) {
      return genes[r][3].empty() ? "" : "chosen";
    });
  }
  if (const Table t = network_table(data); !t.rows.empty()) {
    page.element("h2", "Size and training").table(t.head, t.rows, t.columns);
  }
  add_drawing(page, run_folder, data);

  page.element("h2", "Budget: forecast and spent");
  page.table({"stage",
              "forecast",
              "spent",
              "steps, forecast for the planned network (by rung)",
              "steps, done (by trial)"},
             budget_rows(data),
             "lrrll");
  if (const Json& cannot = part(data.at("forecast"), "cannot_buy");
      cannot.is_array() && !cannot.empty()) {
    page.raw("<p>Not in this budget:</p><ul>\n");
    for (const Json& c : cannot) page.element("li", c.get<std::string>());
    page.raw("</ul>\n");
  }
  page.element("h2", "Data");
  page.table({"", ""}, data_rows(data), "ll");
  Rows intensity;
  for (const auto& [channel, p] : part(data.at("fingerprint"), "intensity").items()) {
    std::vector<std::string> row{channel};
    for (const char* key :
         {"mean", "std", "median", "min", "percentile_00_5", "percentile_99_5", "max"})
      row.push_back(fixed(number_or(p, key, NAN), 2));
    intensity.push_back(std::move(row));
  }
  if (!intensity.empty())
    page.table({"channel, foreground", "mean", "sd", "median", "min", "0.5 %", "99.5 %", "max"},
               intensity,
               "lrrrrrrr");
  if (compared) {
    page.element("h2", "Every held-out case");
    page.raw("<details open><summary>Table, worst first</summary>\n");
    page.table({"case",
                "Dice, searched",
                "Dice, baseline",
                "difference",
                "HD95 mm, searched",
                "HD95 mm, baseline",
                "NSD, searched",
                "NSD, baseline"},
               case_rows(data.at("comparison")),
               "lrrrrrrr");
    page.raw("</details>\n");
  }
  page.element("h2", "To repeat it").element("pre", data.at("command").get<std::string>());
  page.raw("</body></html>\n");
  return page.str();
}

std::string markdown_report(const fs::path& run_folder) {
  const Json data = report_data(run_folder);
  std::ostringstream out;
  // A bar would end a cell, a line break the row.
  auto cell = [](std::string text) {
    std::string result;
    for (const char c : text)
      result += c == '|' ? std::string("\\|") : c == '\n' ? std::string(" ") : std::string(1, c);
    return result;
  };
  auto table =
      [&](const std::vector<std::string>& head, const Rows& rows, std::string_view columns) {
        out << '|';
        for (const std::string& h : head) out << ' ' << cell(h) << " |";
        out << "\n|";
        for (std::size_t i = 0; i < head.size(); ++i)
          out << (i < columns.size() && columns[i] == 'r' ? " ---: |" : " --- |");
        out << '\n';
        for (const auto& row : rows) {
          out << '|';
          for (const std::string& c : row) out << ' ' << cell(c) << " |";
          out << '\n';
        }
        out << '\n';
      };
  out << "# " << text_or(data.at("data"), "name") << "\n\n"
      << "VoxNAS " << data.at("code_version").get<std::string>() << ", recipe "
      << text_or(data.at("recipe"), "name") << ", budget "
      << data.at("budget").at("text").get<std::string>() << ", seed " << data.at("seed") << "\n\n**"
      << data.at("verdict").get<std::string>() << "**\n\n";
  if (const Table t = class_table(data); !t.rows.empty()) {
    out << "## Held-out cases by class\n\n";
    table(t.head, t.rows, t.columns);
  }
  out << "## Search\n\n";
  table(kTrialHead, trial_rows(data), "rllrrrrlr");
  if (const Rows genes = gene_rows(data); !genes.empty()) {
    out << "## What the search changed\n\n";
    table({"gene", "planned", "searched", ""}, genes, "llll");
  }
  if (const Table t = network_table(data); !t.rows.empty()) {
    out << "## Size and training\n\n";
    table(t.head, t.rows, t.columns);
  }
  out << "## Budget: forecast and spent\n\n";
  table(
      {"stage", "forecast", "spent", "steps, forecast", "steps, done"}, budget_rows(data), "lrrll");
  out << "## Data\n\n";
  table({"", ""}, data_rows(data), "ll");
  if (data.contains("comparison")) {
    out << "## Every held-out case\n\n";
    table({"case",
           "Dice, searched",
           "Dice, baseline",
           "difference",
           "HD95 mm, searched",
           "HD95 mm, baseline",
           "NSD, searched",
           "NSD, baseline"},
          case_rows(data.at("comparison")),
          "lrrrrrrr");
  }
  out << "## To repeat it\n\n```\n" << data.at("command").get<std::string>() << "\n```\n";
  return out.str();
}

}  // namespace nas
