// SPDX-License-Identifier: Apache-2.0
#include "training/exchange/monai_bundle.h"

#include <algorithm>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "training/exchange/torchscript.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

// What the bundle was tested with (scripts/requirements-interop.txt).
constexpr const char* kMonaiVersion = "1.6.1";
constexpr const char* kTorchVersion = "2.11.0";
constexpr const char* kNumpyVersion = "2.2.6";

OrderedJson transform(const char* name, const char* keys, OrderedJson arguments) {
  OrderedJson result{{"_target_", name}};
  if (keys != nullptr) result["keys"] = keys;
  result.update(arguments);
  return result;
}

/// The normalisation of all channels as transforms.
std::vector<OrderedJson> normalization(const Preprocessing& p) {
  const std::string& scheme = p.normalization.front();
  const bool mask = p.use_mask_for_norm.front();
  for (std::size_t c = 1; c < p.normalization.size(); ++c) {
    NAS_CHECK(
        p.normalization[c] == scheme && p.use_mask_for_norm[c] == mask,
        "a MONAI bundle cannot express channels that are normalised in different ways: channel "
        "0 has ",
        scheme,
        mask ? " with mask" : "",
        ", channel ",
        c,
        " ",
        p.normalization[c],
        p.use_mask_for_norm[c] ? " with mask" : "");
  }
  if (scheme == "ZScoreNormalization") {
    return {transform("NormalizeIntensityd", "image", {{"nonzero", mask}, {"channel_wise", true}})};
  }
  if (scheme == "CTNormalization") {
    // Clipped and scaled per channel by the training set's foreground.
    std::string low, high;
    OrderedJson mean = OrderedJson::array(), deviation = OrderedJson::array();
    for (const IntensityProperties& channel : p.intensity) {
      low += concat_text(low.empty() ? "" : ", ", Json(channel.percentile_00_5).dump());
      high += concat_text(high.empty() ? "" : ", ", Json(channel.percentile_99_5).dump());
      mean.push_back(channel.mean);
      deviation.push_back(std::max(channel.std, 1e-8));
    }
    const std::string shape = "]).view(-1, 1, 1, 1)";
    return {transform("Lambdad",
                      "image",
                      {{"func",
                        "$lambda x: torch.clamp(x, torch.tensor([" + low + shape +
                            ", torch.tensor([" + high + shape + ")"}}),
            transform("NormalizeIntensityd",
                      "image",
                      {{"subtrahend", mean}, {"divisor", deviation}, {"channel_wise", true}})};
  }
  if (scheme == "RescaleTo01Normalization") {
    return {transform(
        "ScaleIntensityd", "image", {{"minv", 0.0}, {"maxv", 1.0}, {"channel_wise", true}})};
  }
  if (scheme == "RGBTo01Normalization") {
    return {transform("ScaleIntensityRanged",
                      "image",
                      {{"a_min", 0.0}, {"a_max", 255.0}, {"b_min", 0.0}, {"b_max", 1.0}})};
  }
  NAS_CHECK(
      scheme == "NoNormalization", "a MONAI bundle cannot express the normalisation ", scheme);
  return {};
}

OrderedJson inference_config(const Model& model) {
  const Preprocessing& p = model.preprocessing;
  const std::array<int, 3>& forward = p.transpose_forward;
  const std::array<int, 3>& backward = p.transpose_backward;
  // MONAI's arrays are [C, X, Y, Z]; D H W of the turned file is Z Y X, and the network's axis i is
  // axis transpose_forward[i] of that.
  OrderedJson to_network = {0}, spacing = OrderedJson::array();
  for (std::size_t i = 0; i < 3; ++i) {
    to_network.push_back(1 + (2 - forward[i]));
    spacing.push_back(p.spacing[static_cast<std::size_t>(backward[2 - i])]);
  }
  OrderedJson prepare = OrderedJson::array();
  prepare.push_back(transform("LoadImaged", "image", {{"reader", "NibabelReader"}}));
  prepare.push_back(transform("EnsureChannelFirstd", "image", OrderedJson::object()));
  if (!p.orientation.empty()) {
    // With labels of its own: MONAI's default ones are about to change.
    OrderedJson sides = OrderedJson::array();
    for (const auto& [low, high] : {std::pair{"L", "R"}, {"P", "A"}, {"I", "S"}}) {
      sides.push_back(OrderedJson::array({low, high}));
    }
    prepare.push_back(
        transform("Orientationd", "image", {{"axcodes", p.orientation}, {"labels", sides}}));
  }
  prepare.push_back(transform("CropForegroundd",
                              "image",
                              {{"source_key", "image"},
                               {"select_fn", "$lambda x: x != 0"},
                               {"margin", 0},
                               {"allow_smaller", true}}));
  for (OrderedJson& one : normalization(p)) prepare.push_back(std::move(one));
  prepare.push_back(transform(
      "Spacingd", "image", {{"pixdim", spacing}, {"mode", 3}, {"padding_mode", "nearest"}}));
  prepare.push_back(transform("Transposed", "image", {{"indices", to_network}}));

  OrderedJson finish = OrderedJson::array();
  finish.push_back(transform("Invertd",
                             "pred",
                             {{"transform", "@preprocessing"},
                              {"orig_keys", "image"},
                              {"nearest_interp", false},
                              {"to_tensor", true}}));
  finish.push_back(transform("AsDiscreted", "pred", {{"argmax", true}}));
  finish.push_back(transform("SaveImaged",
                             "pred",
                             {{"output_dir", "@output_dir"},
                              {"output_postfix", ""},
                              {"output_ext", ".nii.gz"},
                              {"output_dtype", "$np.int16"},
                              {"separate_folder", false},
                              {"resample", false}}));

  return {
      {"imports", {"$import glob", "$import numpy as np", "$import torch"}},
      {"bundle_root", "."},
      {"dataset_dir", "$@bundle_root + '/images'"},
      {"output_dir", "$@bundle_root + '/eval'"},
      {"datalist",
       "$sorted(glob.glob(@dataset_dir + '/*.nii') + glob.glob(@dataset_dir + '/*.nii.gz'))"},
      {"device", "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"},
      {"network_def", "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)"},
      {"network", "$@network_def.to(@device)"},
      {"preprocessing", {{"_target_", "Compose"}, {"transforms", prepare}}},
      {"dataset",
       {{"_target_", "Dataset"},
        {"data", "$[{'image': image} for image in @datalist]"},
        {"transform", "@preprocessing"}}},
      {"dataloader",
       {{"_target_", "DataLoader"},
        {"dataset", "@dataset"},
        {"batch_size", 1},
        {"shuffle", false},
        {"num_workers", 0}}},
      {"inferer",
       {{"_target_", "SlidingWindowInferer"},
        {"roi_size", p.patch},
        {"sw_batch_size", 1},
        {"overlap", 0.5},
        {"mode", "gaussian"},
        {"sigma_scale", 0.125},
        {"padding_mode", "constant"},
        {"cval", 0.0}}},
      {"postprocessing", {{"_target_", "Compose"}, {"transforms", finish}}},
      {"handlers", OrderedJson::array({{{"_target_", "StatsHandler"}, {"iteration_log", false}}})},
      {"evaluator",
       {{"_target_", "SupervisedEvaluator"},
        {"device", "@device"},
        {"val_data_loader", "@dataloader"},
        {"network", "@network"},
        {"inferer", "@inferer"},
        {"postprocessing", "@postprocessing"},
        {"val_handlers", "@handlers"},
        {"amp", false}}},
      {"run", {"$@evaluator.run()"}}};
}

OrderedJson metadata(const Model& model) {
  const Preprocessing& p = model.preprocessing;
  const bool ct = p.normalization.front() == "CTNormalization";
  OrderedJson channels, classes;
  for (std::size_t c = 0; c < p.channel_names.size(); ++c) {
    channels[std::to_string(c)] = p.channel_names[c];
  }
  for (std::size_t k = 0; k < p.labels.names.size(); ++k) {
    classes[std::to_string(k)] = p.labels.names[k];
  }
  const OrderedJson space = {"*", "*", "*"};
  return {
      {"schema",
       "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
       "meta_schema_20220324.json"},
      {"version", "1.0.0"},
      {"changelog", {{"1.0.0", "exported by VoxNAS"}}},
      {"monai_version", kMonaiVersion},
      {"pytorch_version", kTorchVersion},
      {"numpy_version", kNumpyVersion},
      {"optional_packages_version", {{"nibabel", "5.4.2"}, {"pytorch-ignite", "0.5.5"}}},
      {"required_packages_version", {{"nibabel", "5.4.2"}, {"pytorch-ignite", "0.5.5"}}},
      {"task", "3D medical image segmentation"},
      {"description",
       "Segmentation network " + model.network->graph().name + ", trained and exported by VoxNAS"},
      {"authors", "the users of VoxNAS who trained it"},
      {"copyright", "see LICENSE"},
      {"intended_use", "research; not a medical device"},
      {"network_data_format",
       {{"inputs",
         {{"image",
           {{"type", "image"},
            {"format", ct ? "hounsfield" : "magnitude"},
            {"modality", p.channel_names.front()},
            {"num_channels", p.channel_names.size()},
            {"spatial_shape", space},
            {"dtype", "float32"},
            {"value_range", OrderedJson::array()},
            {"is_patch_data", true},
            {"channel_def", channels}}}}},
        {"outputs",
         {{"pred",
           {{"type", "image"},
            {"format", "segmentation"},
            {"num_channels", p.labels.names.size()},
            {"spatial_shape", space},
            {"dtype", "float32"},
            {"value_range", OrderedJson::array()},
            {"is_patch_data", true},
            {"channel_def", classes}}}}}}}};
}

std::string readme(const Model& model) {
  const Preprocessing& p = model.preprocessing;
  std::string labels;
  for (std::size_t k = 1; k < p.labels.names.size(); ++k) {
    labels += concat_text(k > 1 ? ", " : "", k, " ", p.labels.names[k]);
  }
  return concat_text(
      "# ",
      model.network->graph().name,
      "\n\nA segmentation network exported by VoxNAS.\n\n",
      "- Input: ",
      p.channel_names.size(),
      " channel(s), patches of ",
      to_text(p.patch),
      " voxels at ",
      p.spacing[0],
      " x ",
      p.spacing[1],
      " x ",
      p.spacing[2],
      " mm. ",
      p.orientation.empty() ? std::string("Images are used as they are stored: the model does not "
                                          "know the orientation of its training images")
                            : "Images are turned to " + p.orientation,
      ". The network's axes are theirs in the order Z Y X, then ",
      p.transpose_forward[0],
      " ",
      p.transpose_forward[1],
      " ",
      p.transpose_forward[2],
      " of these.\n- Labels: ",
      labels,
      "\n\nSegment every NIfTI file of a folder (several channels: 4D files):\n\n"
      "    python -m monai.bundle run --meta_file configs/metadata.json "
      "--config_file configs/inference.json \\\n"
      "        --bundle_root . --dataset_dir IMAGES --output_dir OUT\n\n"
      "## Where this differs from `voxnas predict`\n\n"
      "Images at the planned spacing that fit into one window give the same labels. Otherwise: "
      "MONAI "
      "places windows at a fixed distance, VoxNAS spreads them evenly; logits come back by cubic "
      "instead of linear interpolation; a coarse axis is not resampled on its own; z-scores with a "
      "mask leave out each channel's own zeros.\n");
}

}  // namespace

void write_monai_bundle(const Model& model, const fs::path& folder) {
  NAS_CHECK_KIND(Usage,
                 !model.preprocessing.labels.has_regions(),
                 "a MONAI bundle cannot express regions (",
                 to_text(model.preprocessing.labels),
                 "): its transforms write one label per voxel by arg-max; export to nnunet, onnx, "
                 "torchscript or pytorch");
  const auto write = [&](const fs::path& name, const OrderedJson& json) {
    write_file_atomic(folder / name, json.dump(2) + "\n");
  };
  write(fs::path("configs") / "inference.json", inference_config(model));
  write(fs::path("configs") / "metadata.json", metadata(model));
  write_file_atomic(folder / "docs" / "README.md", readme(model));
  write_file_atomic(
      folder / "LICENSE",
      "The owner of this model has not chosen a licence for it yet. Until then all "
      "rights are reserved;\nthe software that exported it (VoxNAS, Apache-2.0) makes "
      "no claim on it.\n");
  create_folder(folder / "models");
  write_model_torchscript(model, folder / "models" / "model.ts");
  c10::Dict<std::string, at::Tensor> state;
  for (const auto& list : {model.network->named_parameters(), model.network->named_buffers()}) {
    for (const auto& item : list) {
      state.insert(item.key(), item.value().detach().to(at::kCPU, at::kFloat).contiguous());
    }
  }
  const std::vector<char> pickled = pickle_for_python(state);
  write_file_atomic(folder / "models" / "model.pt", {pickled.data(), pickled.size()});
}

}  // namespace nas
