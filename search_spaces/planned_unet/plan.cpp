// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/plan.h"

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/imaging/orientation.h"

namespace nas {
namespace {

constexpr std::size_t kMaxStages = 16;
constexpr std::size_t kMaxChannels = 1024;
constexpr std::int64_t kMaxNumber = 1 << 20;

Json extents_json(const std::vector<Extent3>& extents) {
  Json list = Json::array();
  for (const Extent3& extent : extents) list.push_back(extent);
  return list;
}

std::vector<std::int64_t> counts(const JsonReader& reader, std::size_t most) {
  std::vector<std::int64_t> values = reader.integers();
  NAS_CHECK(values.size() <= most,
            reader.where(),
            ": expected at most ",
            most,
            " elements, found ",
            values.size());
  for (const std::int64_t value : values) {
    NAS_CHECK(value >= 1 && value <= kMaxNumber,
              reader.where(),
              ": expected integers in [1, ",
              kMaxNumber,
              "], found ",
              value);
  }
  return values;
}

Extent3 extent(const JsonReader& reader) {
  const std::vector<std::int64_t> values = counts(reader, 3);
  NAS_CHECK(values.size() == 3,
            reader.where(),
            ": expected three integers (D H W), found ",
            values.size());
  return {values[0], values[1], values[2]};
}

std::vector<Extent3> extents(const JsonReader& reader) {
  NAS_CHECK(reader.size() <= kMaxStages,
            reader.where(),
            ": expected at most ",
            kMaxStages,
            " stages, found ",
            reader.size());
  std::vector<Extent3> values;
  for (std::size_t i = 0; i < reader.size(); ++i) values.push_back(extent(reader.at(i)));
  return values;
}

Vec3 real_triple(const JsonReader& reader, double low) {
  const std::vector<double> values = reader.numbers();
  NAS_CHECK(values.size() == 3,
            reader.where(),
            ": expected three numbers (D H W), found ",
            values.size());
  for (const double value : values) {
    NAS_CHECK(
        value >= low, reader.where(), ": expected numbers of at least ", low, ", found ", value);
  }
  return {values[0], values[1], values[2]};
}

std::array<int, 3> permutation(const JsonReader& reader) {
  const std::vector<std::int64_t> values = reader.integers();
  std::array<int, 3> axes{};
  int seen = 0;
  for (std::size_t i = 0; i < values.size() && i < 3; ++i) {
    if (values[i] < 0 || values[i] > 2) break;
    axes[i] = static_cast<int>(values[i]);
    seen |= 1 << axes[i];
  }
  NAS_CHECK(
      values.size() == 3 && seen == 7, reader.where(), ": expected the axes 0, 1, 2 in some order");
  return axes;
}

}  // namespace

Json to_json(const UnetArchitecture& a) {
  return Json{{"kind", a.residual ? "residual" : "plain"},
              {"in_channels", a.in_channels},
              {"classes", a.classes},
              {"features", a.features},
              {"strides", extents_json(a.strides)},
              {"kernels", extents_json(a.kernels)},
              {"blocks", a.blocks},
              {"decoder_convs", a.decoder_convs},
              {"deep_supervision", a.deep_supervision}};
}

UnetArchitecture architecture_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  reader.check_keys({"kind",
                     "in_channels",
                     "classes",
                     "features",
                     "strides",
                     "kernels",
                     "blocks",
                     "decoder_convs",
                     "deep_supervision"});
  UnetArchitecture a;
  const std::string kind = reader.at("kind").text();
  NAS_CHECK(kind == "plain" || kind == "residual",
            where,
            ".kind: expected \"plain\" or \"residual\", found \"",
            kind.substr(0, 64),
            "\"");
  a.residual = kind == "residual";
  a.in_channels = reader.at("in_channels").integer(1, kMaxChannels);
  a.classes = reader.at("classes").integer(1, kMaxChannels);
  a.features = counts(reader.at("features"), kMaxStages);
  a.strides = extents(reader.at("strides"));
  a.kernels = extents(reader.at("kernels"));
  a.blocks = counts(reader.at("blocks"), kMaxStages);
  a.decoder_convs = counts(reader.at("decoder_convs"), kMaxStages);
  a.deep_supervision = reader.at("deep_supervision").boolean();
  return a;
}

Json to_json(const Configuration& c) {
  return Json{{"name", c.name},
              {"patch", c.patch},
              {"batch", c.batch},
              {"spacing", c.spacing},
              {"median_shape", c.median_shape},
              {"normalization", c.normalization},
              {"use_mask_for_norm", c.use_mask_for_norm},
              {"batch_dice", c.batch_dice},
              {"architecture", to_json(c.architecture)},
              {"previous_stage", c.previous_stage},
              {"next_stage", c.next_stage}};
}

Configuration configuration_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  reader.check_keys({"name",
                     "patch",
                     "batch",
                     "spacing",
                     "median_shape",
                     "normalization",
                     "use_mask_for_norm",
                     "batch_dice",
                     "architecture",
                     "previous_stage",
                     "next_stage"});
  Configuration c;
  c.name = reader.at("name").text();
  c.patch = extent(reader.at("patch"));
  c.batch = reader.at("batch").integer(1, kMaxNumber);
  c.spacing = real_triple(reader.at("spacing"), 1e-9);
  c.median_shape = real_triple(reader.at("median_shape"), 0);
  c.normalization = reader.at("normalization").texts();
  const JsonReader masks = reader.at("use_mask_for_norm");
  for (std::size_t i = 0; i < masks.size(); ++i)
    c.use_mask_for_norm.push_back(masks.at(i).boolean());
  c.batch_dice = reader.at("batch_dice").boolean();
  c.architecture =
      architecture_from_json(reader.at("architecture").json(), where + ".architecture");
  const auto channels = static_cast<std::size_t>(c.architecture.in_channels);
  NAS_CHECK(c.normalization.size() == channels && c.use_mask_for_norm.size() == channels,
            where,
            ": expected ",
            channels,
            " entries (one per channel) in normalization and use_mask_for_norm, found ",
            c.normalization.size(),
            " and ",
            c.use_mask_for_norm.size());
  c.previous_stage = reader.at("previous_stage").text();
  c.next_stage = reader.at("next_stage").text();
  return c;
}

const Configuration& Plan::configuration(const std::string& name) const {
  std::string known;
  for (const Configuration& configuration : configurations) {
    if (configuration.name == name) return configuration;
    known += (known.empty() ? "" : ", ") + configuration.name;
  }
  fail(ErrorKind::Usage,
       "plan of ",
       dataset_name,
       ": no configuration '",
       name,
       "'; it has ",
       known.empty() ? "none" : known);
}

Json to_json(const Plan& plan) {
  Json intensity = Json::array();
  for (const IntensityProperties& properties : plan.intensity)
    intensity.push_back(to_json(properties));
  Json configurations = Json::array();
  for (const Configuration& configuration : plan.configurations)
    configurations.push_back(to_json(configuration));
  Json json{{"format", "voxnas.plan"},
            {"version", 1},
            {"dataset_name", plan.dataset_name},
            {"planner", plan.planner},
            {"gpu_memory_gb", plan.gpu_memory_gb},
            {"transpose_forward", plan.transpose_forward},
            {"transpose_backward", plan.transpose_backward},
            {"original_median_spacing", plan.original_median_spacing},
            {"original_median_shape", plan.original_median_shape},
            {"intensity", intensity},
            {"configurations", configurations}};
  write_orientation(json, plan.orientation);
  return json;
}

Plan plan_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  NAS_CHECK(reader.at("format").text() == "voxnas.plan",
            where,
            ".format: expected \"voxnas.plan\", found \"",
            reader.at("format").text().substr(0, 64),
            "\"");
  reader.at("version").integer(1, 1);
  reader.check_keys({"format",
                     "version",
                     "dataset_name",
                     "planner",
                     "gpu_memory_gb",
                     "orientation",
                     "transpose_forward",
                     "transpose_backward",
                     "original_median_spacing",
                     "original_median_shape",
                     "intensity",
                     "configurations"});
  Plan plan;
  plan.dataset_name = reader.at("dataset_name").text();
  plan.planner = reader.at("planner").text();
  plan.gpu_memory_gb = reader.at("gpu_memory_gb").number();
  plan.orientation = read_orientation(reader);
  plan.transpose_forward = permutation(reader.at("transpose_forward"));
  plan.transpose_backward = permutation(reader.at("transpose_backward"));
  plan.original_median_spacing = real_triple(reader.at("original_median_spacing"), 0);
  plan.original_median_shape = real_triple(reader.at("original_median_shape"), 0);
  const JsonReader intensity = reader.at("intensity");
  for (std::size_t i = 0; i < intensity.size(); ++i) {
    plan.intensity.push_back(intensity_from_json(intensity.at(i).json(),
                                                 where + ".intensity[" + std::to_string(i) + "]"));
  }
  const JsonReader configurations = reader.at("configurations");
  NAS_CHECK(configurations.size() >= 1 && configurations.size() <= 16,
            where,
            ".configurations: expected 1 to 16, found ",
            configurations.size());
  for (std::size_t i = 0; i < configurations.size(); ++i) {
    plan.configurations.push_back(configuration_from_json(
        configurations.at(i).json(), where + ".configurations[" + std::to_string(i) + "]"));
  }
  return plan;
}

}  // namespace nas
