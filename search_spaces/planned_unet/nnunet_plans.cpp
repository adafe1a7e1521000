// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/nnunet_plans.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/orientation.h"
#include "search_spaces/planned_unet/planner_kinds.h"

namespace nas {
namespace {

constexpr int kMostAncestors = 8;

/// The configuration with what it inherits filled in.
Json resolved(const JsonReader& all, const std::string& name) {
  std::vector<JsonReader> line{all.at(name)};
  while (line.back().has("inherits_from")) {
    const JsonReader parent = line.back().at("inherits_from");
    NAS_CHECK(line.size() <= kMostAncestors && all.has(parent.text()),
              parent.where(),
              ": expected the name of another configuration, and no circle, found ",
              parent.text().substr(0, 64));
    line.push_back(all.at(parent.text()));
  }
  Json merged = Json::object();
  for (auto one = line.rbegin(); one != line.rend(); ++one) {
    NAS_CHECK(one->json().is_object(), one->where(), ": expected an object");
    merged.update(one->json());
  }
  return merged;
}

Json find_configuration(const JsonReader& plans, const std::string& name) {
  const JsonReader all = plans.at("configurations");
  if (all.has(name)) return resolved(all, name);
  fail(ErrorKind::Usage,
       plans.where(),
       ": no configuration '",
       name,
       "'; it has ",
       joined(all.keys()));
}

std::string place(const std::string& where, const std::string& name) {
  return where + ": configurations." + name;
}

Extent3 extent(const JsonReader& reader) {
  const std::vector<std::int64_t> values = reader.integers();
  NAS_CHECK(values.size() == 3,
            reader.where(),
            ": expected three integers (a 3D configuration), found ",
            values.size());
  for (const std::int64_t value : values) {
    NAS_CHECK(value >= 1 && value <= 4096,
              reader.where(),
              ": expected integers in [1, 4096], found ",
              value);
  }
  return {values[0], values[1], values[2]};
}

std::vector<Extent3> extents(const JsonReader& list) {
  std::vector<Extent3> values;
  for (std::size_t i = 0; i < list.size(); ++i) values.push_back(extent(list.at(i)));
  return values;
}

/// One number for all stages, or one per stage.
std::vector<std::int64_t> per_stage(const JsonReader& value, std::size_t stages) {
  if (value.json().is_array()) return value.integers();
  return std::vector<std::int64_t>(stages, value.integer());
}

/// A key that must have one value or be absent (nnU-Net's default is that value).
void expect(const JsonReader& object, const char* key, const Json& expected) {
  if (!object.has(key)) return;
  const Json& found = object.at(key).json();
  const bool equal = found.is_number() && expected.is_number()
                         ? found.get<double>() == expected.get<double>()
                         : found == expected;
  NAS_CHECK(equal,
            object.at(key).where(),
            ": expected ",
            expected.dump(),
            ", found ",
            found.dump().substr(0, 120));
}

/// A class given by its path, of which the last part decides.
void expect_class(const JsonReader& object, const char* key, const std::string& expected) {
  const std::string found = object.at(key).json().is_null() ? "null" : object.at(key).text();
  NAS_CHECK(found == expected || found.ends_with("." + expected),
            object.at(key).where(),
            ": expected ",
            expected,
            ", found ",
            found.substr(0, 120));
}

}  // namespace

Configuration nnunet_configuration(const Json& plans,
                                   const std::string& where,
                                   const std::string& name,
                                   std::int64_t classes) {
  const Json json = find_configuration(JsonReader(plans, where), name);
  const JsonReader planned(json, place(where, name));
  NAS_CHECK(planned.has("architecture"),
            planned.where(),
            ": expected the key architecture (plans of nnU-Net 2.2 and later); plan anew with a "
            "current nnU-Net");
  const JsonReader architecture = planned.at("architecture");
  const std::string network = architecture.at("network_class_name").text();
  Configuration c;
  c.name = name;
  c.batch = planned.has("batch_size") ? planned.at("batch_size").integer(1, 1 << 20) : 2;
  c.patch = extent(planned.at("patch_size"));
  const std::vector<double> spacing = planned.at("spacing").numbers();
  NAS_CHECK(spacing.size() == 3 && spacing[0] > 0 && spacing[1] > 0 && spacing[2] > 0,
            planned.at("spacing").where(),
            ": expected three numbers above 0 (a 3D configuration)");
  c.spacing = {spacing[0], spacing[1], spacing[2]};
  c.normalization = planned.at("normalization_schemes").texts();
  const JsonReader masks = planned.at("use_mask_for_norm");
  for (std::size_t i = 0; i < masks.size(); ++i) {
    c.use_mask_for_norm.push_back(masks.at(i).boolean());
  }
  NAS_CHECK(c.use_mask_for_norm.size() == c.normalization.size(),
            masks.where(),
            ": expected one entry for each of ",
            c.normalization.size(),
            " channels, found ",
            c.use_mask_for_norm.size());
  if (planned.has("batch_dice")) c.batch_dice = planned.at("batch_dice").boolean();
  if (planned.has("previous_stage")) c.previous_stage = planned.at("previous_stage").text();

  const JsonReader kwargs = architecture.at("arch_kwargs");
  UnetArchitecture& a = c.architecture;
  a.residual = network.ends_with(".ResidualEncoderUNet");
  NAS_CHECK(a.residual || network.ends_with(".PlainConvUNet"),
            architecture.at("network_class_name").where(),
            ": expected PlainConvUNet or ResidualEncoderUNet, found ",
            network.substr(0, 120));
  a.in_channels = static_cast<std::int64_t>(c.normalization.size());
  a.classes = classes;
  a.strides = extents(kwargs.at("strides"));
  a.kernels = extents(kwargs.at("kernel_sizes"));
  const std::size_t stages = a.strides.size();
  a.features = per_stage(kwargs.at("features_per_stage"), stages);
  a.blocks = per_stage(kwargs.at(a.residual ? "n_blocks_per_stage" : "n_conv_per_stage"), stages);
  a.decoder_convs = per_stage(kwargs.at("n_conv_per_stage_decoder"), stages > 0 ? stages - 1 : 0);

  expect_class(kwargs, "conv_op", "Conv3d");
  expect_class(kwargs, "norm_op", "InstanceNorm3d");
  expect_class(kwargs, "nonlin", "LeakyReLU");
  expect(kwargs, "conv_bias", true);
  expect(kwargs, "dropout_op", nullptr);
  expect(kwargs, "nonlin_first", false);
  const JsonReader norm = kwargs.at("norm_op_kwargs");
  NAS_CHECK(norm.has("affine"), norm.where(), ": expected the key affine, true");
  expect(norm, "affine", true);
  expect(norm, "eps", 1e-5);
  expect(norm, "track_running_stats", false);
  if (kwargs.has("nonlin_kwargs") && !kwargs.at("nonlin_kwargs").json().is_null()) {
    expect(kwargs.at("nonlin_kwargs"), "negative_slope", 0.01);
  }
  // Variants of the residual encoder that its builder offers and nnU-Net's planners do not use.
  expect(kwargs, "stem_channels", nullptr);
  expect(kwargs, "bottleneck_channels", nullptr);
  expect(kwargs, "stochastic_depth_p", 0);
  expect(kwargs, "squeeze_excitation", false);
  return c;
}

void check_nnunet_preprocessing(const Json& plans,
                                const std::string& where,
                                const std::string& name) {
  const JsonReader all(plans, where);
  const Json json = find_configuration(all, name);
  const JsonReader planned(json, place(where, name));
  NAS_CHECK(!planned.has("previous_stage") || planned.at("previous_stage").json().is_null(),
            planned.where(),
            ": a stage of a cascade reads the segmentation of another; that is not supported");
  expect(planned, "preprocessor_name", "DefaultPreprocessor");
  const auto resampling = [&](const std::string& key, int order) {
    expect(planned, key.c_str(), "resample_data_or_seg_to_shape");
    const JsonReader kwargs = planned.at(key + "_kwargs");
    expect(kwargs, "is_seg", false);
    expect(kwargs, "order", order);
    expect(kwargs, "order_z", 0);
    expect(kwargs, "force_separate_z", nullptr);
  };
  resampling("resampling_fn_data", 3);
  resampling("resampling_fn_probabilities", 1);
  const std::string reader = all.at("image_reader_writer").text();
  NAS_CHECK(reader == "SimpleITKIO" || reader == "NibabelIO",
            where,
            ": image_reader_writer: expected SimpleITKIO or NibabelIO (NIfTI files on their own "
            "grid), found ",
            reader.substr(0, 64));
  if (all.has("label_manager")) expect(all, "label_manager", "LabelManager");
}

Json nnunet_plans_json(const Plan& plan) {
  const PlannerKind& kind = find_planner(plan.planner);
  const auto resampling = [](bool labels, int order) {
    return Json{
        {"is_seg", labels}, {"order", order}, {"order_z", 0}, {"force_separate_z", nullptr}};
  };
  const std::string function = "resample_data_or_seg_to_shape";

  Json configurations = Json::object();
  for (const Configuration& c : plan.configurations) {
    const UnetArchitecture& unet = c.architecture;
    Json arguments{{"n_stages", unet.features.size()},
                   {"features_per_stage", unet.features},
                   {"conv_op", "torch.nn.modules.conv.Conv3d"},
                   {"kernel_sizes", unet.kernels},
                   {"strides", unet.strides},
                   {unet.residual ? "n_blocks_per_stage" : "n_conv_per_stage", unet.blocks},
                   {"n_conv_per_stage_decoder", unet.decoder_convs},
                   {"conv_bias", true},
                   {"norm_op", "torch.nn.modules.instancenorm.InstanceNorm3d"},
                   {"norm_op_kwargs", {{"eps", 1e-5}, {"affine", true}}},
                   {"dropout_op", nullptr},
                   {"dropout_op_kwargs", nullptr},
                   {"nonlin", "torch.nn.LeakyReLU"},
                   {"nonlin_kwargs", {{"inplace", true}}}};
    const bool full = c.name == "3d_fullres";
    Json median = Json::array();  // the low-resolution shape is rounded to integers, the other may
                                  // hold halves
    for (const double size : c.median_shape) {
      median.push_back(full ? Json(size) : Json(static_cast<std::int64_t>(std::llround(size))));
    }
    // ResEnc planners share the full-resolution data of the default one.
    const std::string owner = full ? "nnUNetPlans" : kind.plans_name;
    Json entry{
        {"data_identifier", owner + "_" + c.name},
        {"preprocessor_name", "DefaultPreprocessor"},
        {"batch_size", c.batch},
        {"patch_size", c.patch},
        {"median_image_size_in_voxels", std::move(median)},
        {"spacing", c.spacing},
        {"normalization_schemes", c.normalization},
        {"use_mask_for_norm", c.use_mask_for_norm},
        {"resampling_fn_data", function},
        {"resampling_fn_seg", function},
        {"resampling_fn_data_kwargs", resampling(false, 3)},
        {"resampling_fn_seg_kwargs", resampling(true, 1)},
        {"resampling_fn_probabilities", function},
        {"resampling_fn_probabilities_kwargs", resampling(false, 1)},
        {"architecture",
         {{"network_class_name",
           std::string("dynamic_network_architectures.architectures.unet.") +
               (unet.residual ? "ResidualEncoderUNet" : "PlainConvUNet")},
          {"arch_kwargs", std::move(arguments)},
          {"_kw_requires_import", Json::array({"conv_op", "norm_op", "dropout_op", "nonlin"})}}},
        {"batch_dice", c.batch_dice}};
    if (!c.previous_stage.empty()) entry["previous_stage"] = c.previous_stage;
    if (!c.next_stage.empty()) entry["next_stage"] = c.next_stage;
    configurations[c.name] = std::move(entry);
  }
  if (configurations.contains("3d_lowres") && configurations.contains("3d_fullres")) {
    configurations["3d_cascade_fullres"] = {{"inherits_from", "3d_fullres"},
                                            {"previous_stage", "3d_lowres"}};
  }

  Json intensity = Json::object();
  for (std::size_t c = 0; c < plan.intensity.size(); ++c)
    intensity[std::to_string(c)] = to_json(plan.intensity[c]);
  Json shape = Json::array();
  for (const double size : plan.original_median_shape)
    shape.push_back(static_cast<std::int64_t>(std::nearbyint(size)));
  Json plans{{"dataset_name", plan.dataset_name},
             {"plans_name", kind.plans_name},
             {"original_median_spacing_after_transp", plan.original_median_spacing},
             {"original_median_shape_after_transp", std::move(shape)},
             {"image_reader_writer", "SimpleITKIO"},
             {"transpose_forward", plan.transpose_forward},
             {"transpose_backward", plan.transpose_backward},
             {"experiment_planner_used", kind.class_name},
             {"label_manager", "LabelManager"},
             {"foreground_intensity_properties_per_channel", std::move(intensity)},
             {"configurations", std::move(configurations)}};
  write_orientation(plans, plan.orientation);  // nnU-Net passes over keys that it does not know
  return plans;
}

}  // namespace nas
