// SPDX-License-Identifier: Apache-2.0
#include "training/exchange/nnunet.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/dataset_json.h"
#include "nas/network/torch_file.h"
#include "search_spaces/planned_unet/nnunet_plans.h"
#include "search_spaces/planned_unet/unet.h"
#include "training/exchange/torchscript.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// Every name under which nnU-Net's state dict holds the tensor "<node>.<leaf>": a convolution and
/// its norm are also members 0 and 1 of their block's list, and the decoder keeps the encoder.
std::vector<std::string> nnunet_names(const std::string& name) {
  std::vector<std::string> names{name};
  const std::size_t leaf = name.rfind('.');
  const std::size_t node = leaf == std::string::npos ? leaf : name.rfind('.', leaf - 1);
  if (node != std::string::npos) {
    const std::string_view last = std::string_view(name).substr(node + 1, leaf - node - 1);
    if (last == "conv" || last == "norm") {
      names.push_back(name.substr(0, node) +
                      (last == "conv" ? ".all_modules.0" : ".all_modules.1") + name.substr(leaf));
    }
  }
  if (name.starts_with("encoder.")) {
    const std::size_t count = names.size();
    for (std::size_t i = 0; i < count; ++i) names.push_back("decoder." + names[i]);
  }
  return names;
}

using Dict = c10::impl::GenericDict;
Dict new_dict() { return Dict(c10::StringType::get(), c10::AnyType::get()); }

/// The plan that the model folder still knows.
Plan known_plan(const Model& model, const UnetArchitecture& architecture) {
  const Preprocessing& p = model.preprocessing;
  Plan plan;
  plan.dataset_name = "Dataset999_VoxNAS";
  plan.planner = architecture.residual ? "resenc-m" : "default";
  plan.orientation = p.orientation;
  plan.transpose_forward = p.transpose_forward;
  plan.transpose_backward = p.transpose_backward;
  plan.intensity = p.intensity;
  Configuration c;
  c.name = p.configuration;
  c.patch = p.patch;
  c.spacing = p.spacing;
  c.normalization = p.normalization;
  c.use_mask_for_norm = p.use_mask_for_norm;
  c.architecture = architecture;
  plan.configurations.push_back(std::move(c));
  return plan;
}

Preprocessing read_preprocessing(const Json& plans,
                                 const std::string& where,
                                 const Configuration& configuration,
                                 const std::vector<std::string>& channels,
                                 const LabelScheme& labels) {
  check_nnunet_preprocessing(plans, where, configuration.name);
  const JsonReader reader(plans, where);
  Plan plan;
  plan.dataset_name = reader.at("dataset_name").text();
  plan.orientation = read_orientation(reader);  // of our own exports; nnU-Net knows none
  for (const auto& [key, axes] : {std::pair{"transpose_forward", &plan.transpose_forward},
                                  std::pair{"transpose_backward", &plan.transpose_backward}}) {
    const std::vector<std::int64_t> values = reader.at(key).integers();
    std::vector<std::int64_t> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    NAS_CHECK(sorted == (std::vector<std::int64_t>{0, 1, 2}),
              reader.at(key).where(),
              ": expected a permutation of [0, 1, 2]");
    for (std::size_t i = 0; i < 3; ++i) (*axes)[i] = static_cast<int>(values[i]);
  }
  const JsonReader intensity = reader.at("foreground_intensity_properties_per_channel");
  for (std::size_t c = 0; c < configuration.normalization.size(); ++c) {
    const JsonReader channel = intensity.at(std::to_string(c));
    plan.intensity.push_back(intensity_from_json(channel.json(), channel.where()));
  }
  plan.configurations.push_back(configuration);
  const Preprocessing result = make_preprocessing(plan, configuration.name, channels, labels);
  // Reading our own form back checks every value as strictly as a model folder's.
  return preprocessing_from_json(to_json(result), where);
}

/// Fills the network from a state dict; every tensor on either side must have its partner.
void take_weights(const TorchFile& file,
                  const PickleValue& state,
                  const std::string& where,
                  GraphModule& network) {
  std::map<std::string, const PickleValue*, std::less<>> stored;
  for (std::size_t i = 0; i + 1 < state.items.size(); i += 2) {
    NAS_CHECK(state.items[i]->kind == PickleValue::Kind::Text,
              where,
              ": network_weights: expected texts as keys");
    std::string_view name = state.items[i]->text;
    for (const std::string_view wrapper : {"module.", "_orig_mod."}) {
      if (name.starts_with(wrapper)) name.remove_prefix(wrapper.size());
    }
    stored[std::string(name)] = state.items[i + 1];
  }
  const at::NoGradGuard no_grad;
  for (const auto& item : network->named_parameters()) {
    const auto found = stored.find(item.key());
    NAS_CHECK(found != stored.end(),
              where,
              ": network_weights: tensor ",
              item.key(),
              " is missing; this is not a checkpoint of the planned network");
    const PickleValue& value = *found->second;
    at::Tensor target = item.value();
    const auto shape = value.tensor ? value.tensor->shape : std::vector<std::int64_t>{};
    NAS_CHECK(value.kind == PickleValue::Kind::Tensor && at::IntArrayRef(shape) == target.sizes(),
              where,
              ": network_weights: tensor ",
              item.key(),
              ": expected shape ",
              target.sizes(),
              ", found ",
              value.tensor ? concat_text(at::IntArrayRef(shape)) : "no tensor");
    std::vector<float> values = file.floats(value);
    target.copy_(torch::from_blob(values.data(), target.sizes(), at::kFloat));
    for (const std::string& name : nnunet_names(item.key())) stored.erase(name);
  }
  NAS_CHECK(stored.empty(),
            where,
            ": network_weights: tensor ",
            stored.empty() ? "" : stored.begin()->first,
            " belongs to no part of the planned network");
}

std::string text_of(const PickleValue* value) {
  return value != nullptr && value->kind == PickleValue::Kind::Text ? value->text : "";
}

}  // namespace

void write_nnunet_model(const Model& model, const fs::path& folder) {
  const Graph& graph = model.network->graph();
  UnetArchitecture architecture = unet_architecture(graph);
  const Plan plan = known_plan(model, architecture);
  Json plans = nnunet_plans_json(plan);
  plans["plans_name"] = "VoxNASPlans";
  plans.erase("original_median_spacing_after_transp");
  plans.erase("original_median_shape_after_transp");
  Json& configuration = plans["configurations"][model.preprocessing.configuration];
  configuration.erase("median_image_size_in_voxels");

  DataSet names;
  names.channel_names = model.preprocessing.channel_names;
  names.labels = model.preprocessing.labels;
  OrderedJson dataset = nnunet_dataset_json(names);
  dataset.erase("numTraining");

  std::map<std::string, at::Tensor> tensors;
  const torch::OrderedDict<std::string, at::Tensor> own = model.network->named_parameters();
  architecture.deep_supervision = true;  // nnU-Net's networks always hold all heads
  const GraphModule complete(make_unet(architecture));
  for (const auto& item : complete->named_parameters()) {
    const at::Tensor* given = own.find(item.key());
    const at::Tensor value =
        given != nullptr ? given->detach().to(at::kCPU, at::kFloat) : at::zeros_like(item.value());
    tensors[item.key()] = value.detach().contiguous();
  }
  Dict weights = new_dict();
  for (const auto& [name, tensor] : tensors) {
    for (const std::string& alias : nnunet_names(name)) weights.insert(alias, tensor);
  }
  Dict arguments = new_dict();
  arguments.insert("configuration", model.preprocessing.configuration);
  arguments.insert("fold", std::int64_t{0});
  Dict checkpoint = new_dict();
  checkpoint.insert("network_weights", weights);
  checkpoint.insert("init_args", arguments);
  checkpoint.insert("trainer_name", "nnUNetTrainer");
  const bool mirrors = model.mirrored.value_or(true);
  checkpoint.insert("inference_allowed_mirroring_axes",
                    mirrors ? c10::IValue(c10::ivalue::Tuple::create(
                                  {c10::IValue(std::int64_t{0}), std::int64_t{1}, std::int64_t{2}}))
                            : c10::IValue());
  checkpoint.insert("optimizer_state", c10::IValue());
  checkpoint.insert("grad_scaler_state", c10::IValue());
  checkpoint.insert("current_epoch", std::int64_t{0});
  const std::vector<char> pickled = pickle_for_python(checkpoint);

  if (!plan.orientation.empty()) {
    log_info("nnU-Net takes images as they are stored: give it images of orientation ",
             plan.orientation);
  }
  write_file_atomic(folder / "dataset.json", dataset.dump(2) + "\n");
  write_json(folder / "plans.json", plans);
  write_file_atomic(folder / "fold_0" / "checkpoint_final.pth", {pickled.data(), pickled.size()});
}

NnunetImport read_nnunet_folder(const fs::path& folder, const std::string& checkpoint) {
  for (const char* name : {"plans.json", "dataset.json"}) {
    NAS_CHECK(fs::is_regular_file(folder / name),
              folder.string(),
              ": expected an nnU-Net 2 results folder (TRAINER__PLANS__CONFIGURATION); ",
              name,
              " is missing");
  }
  NnunetImport result;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("fold_") || !fs::is_regular_file(entry.path() / checkpoint)) continue;
    const std::string number = name.substr(5);
    const bool digits =
        !number.empty() && number.size() < 6 &&
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits) result.folds.push_back(std::stoi(number));
  }
  std::sort(result.folds.begin(), result.folds.end());
  std::vector<fs::path> files;
  for (const int fold : result.folds) {
    files.push_back(folder / ("fold_" + std::to_string(fold)) / checkpoint);
  }
  if (files.empty()) files.push_back(folder / "fold_all" / checkpoint);
  NAS_CHECK(fs::is_regular_file(files.front()),
            folder.string(),
            ": expected fold_0/",
            checkpoint,
            " (or another fold, or fold_all), found none");

  const std::string plans_file = (folder / "plans.json").string();
  const std::string dataset_file = (folder / "dataset.json").string();
  const Json plans = read_json(plans_file, 64 << 20), dataset = read_json(dataset_file, 64 << 20);
  const JsonReader dataset_reader(dataset, dataset_file);
  // An ignored label is of training; no output stands for it.
  const LabelScheme labels =
      read_label_scheme(dataset_reader, keys_in_order(read_file(dataset_file, 64 << 20), "labels"));
  const std::vector<std::string> channels = stated_channel_names(dataset_reader);

  for (const fs::path& path : files) {
    const std::string where = path.string();
    const TorchFile file(path);
    const PickleValue* state = file.root().find("network_weights");
    NAS_CHECK(state != nullptr && state->kind == PickleValue::Kind::Dict,
              where,
              ": expected a checkpoint of nnU-Net 2 with the key network_weights");
    const PickleValue* arguments = file.root().find("init_args");
    const std::string configuration =
        text_of(arguments != nullptr ? arguments->find("configuration") : nullptr);
    NAS_CHECK(!configuration.empty(), where, ": init_args.configuration: expected a text");
    NAS_CHECK(result.configuration.empty() || result.configuration == configuration,
              where,
              ": expected configuration ",
              result.configuration,
              " as in the folds before, found ",
              configuration);
    result.configuration = configuration;
    result.trainer = text_of(file.root().find("trainer_name"));
    const PickleValue* axes = file.root().find("inference_allowed_mirroring_axes");

    const Configuration planned =
        nnunet_configuration(plans, plans_file, configuration, labels.outputs());
    Model model;
    model.mirrored = axes != nullptr && !axes->items.empty();
    model.preprocessing = read_preprocessing(plans, plans_file, planned, channels, labels);
    model.network = GraphModule(make_unet(planned.architecture));
    take_weights(file, *state, where, model.network);
    result.models.push_back(std::move(model));
  }
  return result;
}

}  // namespace nas
