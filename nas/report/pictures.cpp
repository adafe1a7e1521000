// SPDX-License-Identifier: Apache-2.0
#include "nas/report/pictures.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/extent.h"
#include "nas/core/files.h"
#include "nas/core/run_folder.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"
#include "nas/imaging/png.h"
#include "nas/network/drawing.h"
#include "nas/network/graph.h"
#include "nas/search/case_scores.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

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
