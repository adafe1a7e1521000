// SPDX-License-Identifier: Apache-2.0
#include "nas/report/figures.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/extent.h"
#include "nas/core/files.h"
#include "nas/core/run_folder.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/png.h"
#include "nas/network/drawing.h"
#include "nas/network/graph.h"
#include "nas/report/plot.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

// ---- plots ----

constexpr const char* kRungColors[] = {"#9ecae1", "#4292c6", "#08519c", "#08306b"};

// ---- pictures ----

/// Axis codes (x y z) in which SliceOptions' axes 0, 1 and 2 cut axial, coronal, sagittal slices.
constexpr const char* kPlaneOrientation = "RAS";

struct PickedCase {
  std::string rank, id;
  double dice = 0;
  const Json* classes = nullptr;
};

/// Worst, median and best held-out case of the delivered network.
std::vector<PickedCase> picked_cases(const Json& delivered) {
  std::vector<PickedCase> all;
  for (const Json& c : part(delivered, "cases")) {
    const Json& classes = part(c, "classes");
    const double dice = case_dice(classes);
    if (std::isfinite(dice)) all.push_back({"", text_or(c, "id"), dice, &classes});
  }
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
  svg << "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 720 280\" role=\"img\" "
         "aria-label=\"Search curve\">\n";
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

void add_pictures(Html& page,
                  const fs::path& run_folder,
                  const Json& data,
                  const std::string& label) {
  const std::vector<PickedCase> picked = picked_cases(data.at("final").at(label));
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
    DataSet set = open_data_set(data.at("data_folder").get<std::string>());
    set.accept_misaligned = data.value("accept_misaligned", false);
    // Whatever axes a file has, D H W are the patient's: across D lie the axial slices.
    set.orientation = kPlaneOrientation;
    for (const PickedCase& c : picked) {
      const CaseFiles& files = set.find(c.id);
      const Image image = read_case_image(set, files);
      const LabelMap reference = read_case_label(set, files);
      LabelMap prediction =
          read_nifti_label(RunFolder(run_folder).predictions(label) / (c.id + ".nii.gz"));
      const Turn turn = turn_to(prediction.geometry, kPlaneOrientation);
      prediction = turned(std::move(prediction), turn);
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

void add_drawings(Html& page, const fs::path& run_folder, const Json& data) {
  for (const auto& [label, title] : {std::pair{"best", "The searched network"},
                                     std::pair{"control", "The control's network"},
                                     std::pair{"baseline", "The planned network"}}) {
    const bool delivered = data.at("delivered") == label;
    const fs::path model = RunFolder(run_folder).final_model(label);
    if (!data.at("final").contains(label) || (label != std::string_view("best") && !delivered)) {
      continue;
    }
    page.element("h2", concat_text(title, delivered ? ", delivered" : ""));
    // Not in the run folder, which may be an archive.
    const fs::path drawing =
        temporary_name(fs::temp_directory_path() / "voxnas-network").string() + ".svg";
    try {
      const Graph graph = read_graph((model / "network.json").string());
      const std::string where = (model / "preprocessing.json").string();
      const Json preprocessing = parse_json(read_file(where, 16 << 20), where);
      const std::vector<std::int64_t> edges =
          JsonReader(preprocessing, where).at("patch").integers();
      NAS_CHECK(edges.size() == 3, where, ": patch: expected 3 edges, found ", edges.size());
      write_drawing(graph, {edges[0], edges[1], edges[2]}, drawing);
      page.raw(concat_text("<details><summary>Drawing (",
                           graph.nodes.size(),
                           " nodes)</summary>\n<img class=\"network\" alt=\"network\" "
                           "src=\"data:image/svg+xml;base64,",
                           base64(read_file(drawing, 32 << 20)),
                           "\"></details>\n"));
    } catch (const Error& error) {
      page.element("p", concat_text("No drawing: ", error.what()), "class=\"note\"");
    }
    std::error_code ignored;
    fs::remove(drawing, ignored);
  }
}

}  // namespace nas
