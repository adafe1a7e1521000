// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/components.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/imaging/metrics.h"
#include "search_spaces/config_space/component_file.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/reference_networks/reference_networks.h"

namespace nas {
namespace {

using Pointer = Json::json_pointer;

/// An arg of a component and the training option that it is.
struct OptionArg {
  const char* arg;
  const char* option;
};

// Names and values are checked where training options are (train_options_from_json).
const std::vector<OptionArg> kLossArgs{{"batch_dice", "batch_dice"},
                                       {"dice_weight", "dice_weight"},
                                       {"ce_weight", "ce_weight"},
                                       {"dice_smooth", "dice_smooth"},
                                       {"include_background", "include_background"},
                                       {"squared_dice", "squared_dice"},
                                       {"generalized_dice", "generalized_dice"},
                                       {"focal_gamma", "focal_gamma"},
                                       {"deep_supervision", "deep_supervision"}};
const std::vector<OptionArg> kOptimizerArgs{{"lr", "learning_rate"},
                                            {"momentum", "momentum"},
                                            {"beta1", "beta1"},
                                            {"beta2", "beta2"},
                                            {"epsilon", "epsilon"},
                                            {"weight_decay", "weight_decay"},
                                            {"clip_norm", "clip_norm"},
                                            {"average_decay", "average_decay"}};
const std::vector<OptionArg> kScheduleArgs{{"power", "schedule_power"},
                                           {"every", "schedule_every"},
                                           {"gamma", "schedule_gamma"},
                                           {"milestones", "schedule_milestones"},
                                           {"warmup_steps", "warmup_steps"},
                                           {"warmup_fraction", "warmup_fraction"}};

JsonReader args_of(const JsonReader& component) {
  static const Json none = Json::object();
  component.check_keys({"name", "args", "alias", "path"});
  return component.has("args") ? component.at("args") : JsonReader(none, component.where());
}

/// Copies known args to options and checks that no other is there. \param also read by the caller.
void take_options(const JsonReader& args,
                  const std::vector<OptionArg>& known,
                  const std::vector<std::string>& also,
                  Json& options) {
  std::vector<std::string> names = also;
  for (const OptionArg& each : known) names.emplace_back(each.arg);
  args.check_keys(names);
  for (const OptionArg& each : known) {
    if (args.has(each.arg)) options[each.option] = args.at(each.arg).json();
  }
}

std::int64_t steps_of_epochs(double epochs, double steps_per_epoch) {
  return std::max<std::int64_t>(1, std::llround(epochs * steps_per_epoch));
}

void read_schedule(const JsonReader& component, double steps_per_epoch, Json& options) {
  const JsonReader args = args_of(component);
  options["schedule"] = component.at("name").text();
  take_options(args, kScheduleArgs, {"every_epochs", "milestones_epochs"}, options);
  if (args.has("every_epochs")) {
    options["schedule_every"] = steps_of_epochs(args.at("every_epochs").number(), steps_per_epoch);
  }
  if (args.has("milestones_epochs")) {
    Json steps = Json::array();
    for (const double epoch : args.at("milestones_epochs").numbers())
      steps.push_back(steps_of_epochs(epoch, steps_per_epoch));
    options["schedule_milestones"] = steps;
  }
  if (options["schedule"] == "wsd") return;
  for (const char* key : {"warmup_fraction", "warmup_steps"}) {
    if (!options.contains(key)) options[key] = 0;  // not those of the planned schedule
  }
}

Json read_augmentation(const JsonReader& list) {
  Json rows = Json::array();
  NAS_CHECK(list.json().is_array(), list.where(), ": expected a list of components");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonReader component = list.at(i);
    if (component.json().is_null()) continue;  // disabled
    const JsonReader args = args_of(component);
    Json row{{"name", component.at("name").text()}};
    Json rest = args.json();
    if (rest.contains("prob")) {
      row["prob"] = rest["prob"];
      rest.erase("prob");
    }
    row["args"] = rest;
    rows.push_back(std::move(row));
  }
  return rows;
}

Vec3 positive_three(const JsonReader& reader) {
  const std::vector<double> list = reader.numbers();
  NAS_CHECK(list.size() == 3 && std::ranges::all_of(list, [](double x) { return x > 0; }),
            reader.where(),
            ": expected three numbers above 0 (D H W), found ",
            reader.json().dump());
  return {list[0], list[1], list[2]};
}

DataSetup read_data(const JsonReader& component) {
  const JsonReader args = args_of(component);
  args.check_keys({"spacing", "orientation", "intensity", "clip", "to", "nonzero"});
  DataSetup data;
  if (args.has("spacing")) data.spacing = positive_three(args.at("spacing"));
  if (args.has("orientation")) data.orientation = args.at("orientation").text();
  if (args.has("nonzero")) data.nonzero = args.at("nonzero").boolean();
  if (!args.has("intensity")) return data;
  data.intensity = args.at("intensity").text();
  const std::vector<std::string> known{"clip", "zscore"};
  NAS_CHECK(std::ranges::find(known, data.intensity) != known.end(),
            args.at("intensity").where(),
            ": expected clip or zscore, found '",
            data.intensity,
            "'",
            did_you_mean(data.intensity, known));
  const auto pair = [&](const char* key, double& low, double& high) {
    const std::vector<double> ends = args.at(key).numbers();
    NAS_CHECK(ends.size() == 2 && ends[0] < ends[1],
              args.at(key).where(),
              ": expected [low, high], found ",
              args.at(key).json().dump());
    low = ends[0];
    high = ends[1];
  };
  if (data.intensity == "clip") pair("clip", data.low, data.high);
  if (args.has("to")) pair("to", data.to_low, data.to_high);
  return data;
}

void read_sampling(const JsonReader& component, ConcreteTraining& result) {
  const JsonReader args = args_of(component);
  args.check_keys({"patch", "foreground_fraction"});
  if (args.has("patch")) {
    const std::vector<std::int64_t> patch = args.at("patch").integers();
    NAS_CHECK(patch.size() == 3 && std::ranges::all_of(patch, [](auto n) { return n > 0; }),
              args.at("patch").where(),
              ": expected three numbers of voxels (D H W), found ",
              args.at("patch").json().dump());
    result.patch = {patch[0], patch[1], patch[2]};
  }
  if (args.has("foreground_fraction"))
    result.options["foreground_fraction"] = args.at("foreground_fraction").number();
}

UnetArchitecture dyn_unet(const JsonReader& args, const Configuration& planned) {
  UnetArchitecture a = planned.architecture;
  a.residual = false;
  a.features = args.at("features").integers();
  a.deep_supervision = args.has("deep_supervision") && args.at("deep_supervision").boolean();
  const auto triples = [&](const char* key) {
    std::vector<Extent3> result;
    const JsonReader list = args.at(key);
    for (std::size_t i = 0; i < list.size(); ++i) {
      const bool one = list.at(i).json().is_number();
      const std::vector<std::int64_t> axes =
          one ? std::vector<std::int64_t>(3, list.at(i).integer()) : list.at(i).integers();
      NAS_CHECK(axes.size() == 3,
                list.at(i).where(),
                ": expected a number or three, found ",
                list.at(i).json().dump());
      result.push_back({axes[0], axes[1], axes[2]});
    }
    NAS_CHECK(result.size() == a.features.size(),
              list.where(),
              ": expected ",
              a.features.size(),
              ", one for each of features, found ",
              result.size());
    return result;
  };
  a.kernels = triples("kernels");
  a.strides = triples("strides");
  a.blocks.assign(a.features.size(), 2);
  a.decoder_convs.assign(a.features.size() - 1, 2);
  return a;
}

Graph monai_unet(const JsonReader& args, const NetworkIo& io) {
  MonaiUnetOptions o;
  o.channels = args.at("channels").integers();
  o.strides = args.at("strides").integers();
  if (args.has("num_res_units")) o.num_res_units = args.at("num_res_units").integer(0, 16);
  if (args.has("kernel_size")) o.kernel_size = args.at("kernel_size").integer();
  if (args.has("up_kernel_size")) o.up_kernel_size = args.at("up_kernel_size").integer();
  if (args.has("norm")) o.norm = args.at("norm").text();
  if (args.has("affine")) o.affine = args.at("affine").boolean();
  if (args.has("activation")) o.activation = args.at("activation").text();
  if (args.has("dropout")) o.dropout = args.at("dropout").number();
  if (args.has("bias")) o.bias = args.at("bias").boolean();
  return make_monai_unet(io, o);
}

/// A point of a search space: its genes are the args.
Graph point_of_space(const std::string& name,
                     const JsonReader& args,
                     const Configuration& planned,
                     std::unique_ptr<SearchSpace> (*make_space)(const Json&)) {
  const auto space = make_space(Json{{"space", name}, {"configuration", to_json(planned)}});
  std::string text;
  for (const std::string& gene : args.keys()) {
    const Json& value = args.at(gene).json();
    text += (text.empty() ? "" : " ") + gene + "=" +
            (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return space->build(text.empty() ? space->start() : space->from_text(text)).graph;
}

Graph described_network(const Json& network,
                        const Configuration& planned,
                        const Extent3& patch,
                        std::unique_ptr<SearchSpace> (*make_space)(const Json&),
                        const std::string& where) {
  const JsonReader reader(network, where + ": network");
  const bool own = has_component_file(reader);
  const std::string name = own ? "" : reader.at("name").text();
  const UnetArchitecture& a = planned.architecture;
  const NetworkIo io{a.in_channels, a.classes, volume(patch) > 0 ? patch : planned.patch};
  Json rest = network.value("args", Json::object());
  const auto agree = [&](const char* key, std::int64_t expected) {
    if (!rest.contains(key)) return;
    NAS_CHECK(rest[key] == expected,
              where,
              ": network.args.",
              key,
              ": the data set has ",
              expected,
              ", found ",
              rest[key].dump());
    rest.erase(key);
  };
  agree("in_channels", io.in_channels);
  agree("out_channels", io.classes);
  const JsonReader args(rest, where + ": network.args");
  if (own) return network_of_file(reader.at("path").text(), args, io.in_channels, io.classes);
  const std::vector<std::string> spaces{"unet", "c2fnas", "vnas", "mixed-unet"};
  if (name == "planned") {
    args.check_keys({});
    return make_unet(a);
  }
  if (name == "monai-unet") {
    args.check_keys({"channels",
                     "strides",
                     "num_res_units",
                     "kernel_size",
                     "up_kernel_size",
                     "norm",
                     "affine",
                     "activation",
                     "dropout",
                     "bias"});
    return monai_unet(args, io);
  }
  if (name == "dyn-unet") {
    args.check_keys({"features", "kernels", "strides", "deep_supervision"});
    return make_unet(dyn_unet(args, planned));
  }
  if (name == "basic-unet" && args.has("features")) {
    args.check_keys({"features"});
    return make_basic_unet(io, args.at("features").integers());
  }
  if (std::ranges::find(spaces, name) != spaces.end())
    return point_of_space(name, args, planned, make_space);
  if (const ReferenceNetwork* row = find_reference_network(name)) {
    args.check_keys({});
    return row->make(io);
  }
  std::vector<std::string> known = spaces;
  for (const char* word : {"planned", "monai-unet", "dyn-unet"}) known.emplace_back(word);
  for (const std::string& word : reference_network_names()) known.push_back(word);
  fail(ErrorKind::Input,
       where,
       ": network.name: expected one of ",
       joined(known),
       ", found '",
       name,
       "'",
       did_you_mean(name, known));
}

}  // namespace

const std::vector<std::string>& own_keys() {
  static const std::vector<std::string> keys{"format",
                                             "version",
                                             "steps",
                                             "epochs",
                                             "batch",
                                             "learning_rate",
                                             "seed",
                                             "amp",
                                             "determinism",
                                             "patches_per_case",
                                             "network",
                                             "loss",
                                             "optimizer",
                                             "schedule",
                                             "augmentation",
                                             "sampling",
                                             "data",
                                             "validation"};
  return keys;
}

const std::vector<SinglePlace>& own_singles() {
  static const std::vector<SinglePlace> places{{Pointer("/network"), false},
                                               {Pointer("/loss"), false},
                                               {Pointer("/optimizer"), false},
                                               {Pointer("/schedule"), false}};
  return places;
}

void apply_data_setup(const DataSetup& setup, Plan& plan, const std::string& configuration) {
  if (!setup.orientation.empty()) plan.orientation = setup.orientation;
  for (Configuration& c : plan.configurations) {
    if (c.name != configuration) continue;
    if (setup.spacing) {
      for (std::size_t a = 0; a < 3; ++a) {
        const double spacing =
            (*setup.spacing)[static_cast<std::size_t>(plan.transpose_forward[a])];
        c.median_shape[a] *= c.spacing[a] / spacing;
        c.spacing[a] = spacing;
      }
    }
    if (setup.intensity == "clip") {
      // CTNormalization clips to two percentiles, subtracts a mean and divides by a deviation.
      const double factor = (setup.high - setup.low) / (setup.to_high - setup.to_low);
      for (IntensityProperties& channel : plan.intensity) {
        channel.percentile_00_5 = setup.low;
        channel.percentile_99_5 = setup.high;
        channel.mean = setup.low - setup.to_low * factor;
        channel.std = factor;
      }
      std::ranges::fill(c.normalization, "CTNormalization");
    } else if (setup.intensity == "zscore") {
      std::ranges::fill(c.normalization, "ZScoreNormalization");
      c.use_mask_for_norm.assign(c.normalization.size(), setup.nonzero);
    }
  }
}

ConcreteTraining read_concrete(const Json& tree,
                               std::int64_t training_cases,
                               const std::string& where) {
  const JsonReader reader(tree, where);
  reader.check_keys(own_keys());
  ConcreteTraining result;
  result.options = Json::object();
  Json& options = result.options;
  constexpr std::int64_t kMany = 1'000'000'000;
  if (reader.has("steps")) result.steps = reader.at("steps").integer(1, kMany);
  if (reader.has("epochs")) result.epochs = reader.at("epochs").number();
  NAS_CHECK(result.steps == 0 || result.epochs == 0,
            where,
            ": expected one of steps and epochs, found both");
  if (reader.has("batch")) options["batch"] = result.batch = reader.at("batch").integer(1, 1 << 16);
  if (reader.has("learning_rate")) options["learning_rate"] = reader.at("learning_rate").number();
  if (reader.has("seed")) result.seed = reader.at("seed").integer(0, INT64_MAX);
  if (reader.has("determinism")) reader.at("determinism").boolean();  // always, with steps
  if (reader.has("amp")) options["precision"] = reader.at("amp").boolean() ? "auto" : "fp32";
  const double patches =
      reader.has("patches_per_case") ? reader.at("patches_per_case").number() : 1;
  NAS_CHECK(patches > 0, where, ": patches_per_case: expected more than 0, found ", patches);
  result.cases_per_step =
      std::max(1.0, static_cast<double>(std::max<std::int64_t>(result.batch, 1)) / patches);
  const double per_epoch = std::ceil(
      static_cast<double>(std::max<std::int64_t>(training_cases, 1)) / result.cases_per_step);
  if (result.epochs > 0) result.steps = steps_of_epochs(result.epochs, per_epoch);

  if (reader.has("loss") && has_component_file(reader.at("loss"))) {
    options["loss"] = reader.at("loss").at("path").text();
    const std::string settings = script_settings(args_of(reader.at("loss")));
    if (!settings.empty()) options["loss_settings"] = Json::parse(settings);
  } else if (reader.has("loss")) {
    options["loss"] = reader.at("loss").at("name").text();
    take_options(args_of(reader.at("loss")), kLossArgs, {}, options);
  }
  if (reader.has("optimizer")) {
    options["optimizer"] = reader.at("optimizer").at("name").text();
    take_options(args_of(reader.at("optimizer")), kOptimizerArgs, {}, options);
  }
  if (reader.has("schedule")) read_schedule(reader.at("schedule"), per_epoch, options);
  if (reader.has("augmentation"))
    options["augmentations"] = read_augmentation(reader.at("augmentation"));
  if (reader.has("sampling")) read_sampling(reader.at("sampling"), result);
  if (reader.has("data")) result.data = read_data(reader.at("data"));
  if (reader.has("validation")) {
    const JsonReader args = args_of(reader.at("validation"));
    args.check_keys({"share", "metric"});
    if (args.has("share")) result.validation = args.at("share").number();
    if (args.has("metric"))
      result.metric = metric_named(args.at("metric").text(), args.at("metric").where()).name;
  }
  result.network = Json{{"name", "planned"}};
  if (reader.has("network")) {
    args_of(reader.at("network"));
    result.network = reader.at("network").json();
  }
  return result;
}

Graph make_described_network(const Json& network,
                             const Configuration& planned,
                             const Extent3& patch,
                             std::unique_ptr<SearchSpace> (*make_space)(const Json&),
                             const std::string& where) {
  try {
    return described_network(network, planned, patch, make_space, where);
  } catch (const Error& error) {
    const std::string message = error.what();
    if (message.starts_with(where)) throw;
    fail(error.kind(), where, ": network: ", message);
  }
}

}  // namespace nas
