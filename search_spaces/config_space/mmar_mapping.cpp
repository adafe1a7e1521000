// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/mmar_mapping.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {

namespace {

// ---- networks

/// "batch", ("instance", {"affine": true}) in MONAI's spelling.
void map_norm(ClaraArgs& args, const std::string& arg, const std::string& fallback, Json& own) {
  Json norm = fallback;
  if (args.has(arg)) norm = args.any(arg);
  Json more = Json::object();
  if (norm.is_array() && norm.size() == 2) {
    more = norm[1];
    const Json name = norm[0];
    norm = name;
  }
  std::string word = norm.is_string() ? norm.get<std::string>() : norm.dump();
  std::ranges::transform(
      word, word.begin(), [](char c) { return static_cast<char>(std::tolower(c)); });
  if (word != "batch" && word != "instance")
    args.wrong("args.", arg, ": expected batch or instance, found ", norm.dump());
  own["norm"] = word + "_norm";
  if (more.contains("affine")) own["affine"] = more["affine"];
}

void map_activation(ClaraArgs& args,
                    const std::string& arg,
                    const std::string& fallback,
                    Json& own) {
  Json act = args.has(arg) ? args.any(arg) : Json(fallback);
  if (act.is_array() && !act.empty()) {
    const Json name = act[0];
    act = name;
  }
  std::string word = act.is_string() ? act.get<std::string>() : act.dump();
  std::ranges::transform(
      word, word.begin(), [](char c) { return static_cast<char>(std::tolower(c)); });
  if (word == "leakyrelu") word = "leaky_relu";
  const std::vector<std::string> known{"prelu", "relu", "leaky_relu", "elu"};
  if (std::ranges::find(known, word) == known.end())
    args.wrong("args.", arg, ": expected one of ", joined(known), ", found ", act.dump());
  own["activation"] = word;
}

/// What every network has: three dimensions, channels.
Json ends(ClaraArgs& args) {
  for (const char* word : {"dimensions", "spatial_dims"}) args.expect(word, 3);
  Json own = Json::object();
  for (const char* word : {"in_channels", "out_channels"}) {
    if (args.has(word)) own[word] = args.integer(word, 0);
  }
  return own;
}

void set_network(OwnDescription& own, const char* name, Json args) {
  own.root["network"] = {{"name", name}, {"args", std::move(args)}};
}

void map_unet(ClaraArgs& args, OwnDescription& own) {
  Json net = ends(args);
  net["channels"] = args.any("channels");
  net["strides"] = args.any("strides");
  net["num_res_units"] = args.integer("num_res_units", 0);
  net["kernel_size"] = args.integer("kernel_size", 3);
  net["up_kernel_size"] = args.integer("up_kernel_size", 3);
  net["dropout"] = args.number("dropout", 0);
  net["bias"] = args.flag("bias", true);
  args.expect("adn_ordering", "NDA");
  map_norm(args, "norm", "instance", net);
  map_activation(args, "act", "prelu", net);
  set_network(own, "monai-unet", net);
}

void map_basic_unet(ClaraArgs& args, OwnDescription& own) {
  Json net = ends(args);
  net["features"] = args.has("features") ? args.any("features") : Json{32, 32, 64, 128, 256, 32};
  args.expect("dropout", 0.0);
  args.expect("upsample", "deconv");
  args.expect("bias", true);
  args.expect("act", Json::array({"LeakyReLU", {{"negative_slope", 0.1}, {"inplace", true}}}));
  args.expect("norm", Json::array({"instance", {{"affine", true}}}));
  set_network(own, "basic-unet", net);
}

void map_dyn_unet(ClaraArgs& args, OwnDescription& own) {
  Json net = ends(args);
  if (!args.has("filters"))
    args.wrong("args: expected \"filters\", the channels of every level, found none");
  net["features"] = args.any("filters");
  net["kernels"] = args.any("kernel_size");
  net["strides"] = args.any("strides");
  Json down = args.any("strides");
  if (!down.empty()) down.erase(0);
  if (args.has("upsample_kernel_size")) args.expect("upsample_kernel_size", down);
  net["deep_supervision"] = args.flag("deep_supervision", false);
  args.ignore("deep_supr_num", "every level but the two coarsest has an output here");
  args.expect("res_block", false);
  args.expect("trans_bias", false);
  args.ignore("norm_name", "instance norm, as nnU-Net has it");
  args.ignore("act_name", "leaky ReLU 0.01, as nnU-Net has it");
  set_network(own, "dyn-unet", net);
}

/// Networks of one published size.
void fixed(ClaraArgs& args,
           OwnDescription& own,
           const char* ours,
           const std::initializer_list<const char*>& ignored) {
  const Json net = ends(args);
  for (const char* word : ignored) args.ignore(word, concat_text("as ", ours, " has it"));
  set_network(own, ours, net);
}

// ---- losses

/// The args that Dice losses share.
Json dice_args(ClaraArgs& args) {
  Json own = Json::object();
  args.ignore("to_onehot_y", "");
  if (!args.flag("softmax", false))
    args.wrong("args.softmax: expected true (classes exclude each other), found false",
               args.flag("sigmoid", false) ? " and sigmoid" : "");
  args.expect("sigmoid", false);
  args.expect("other_act", Json());
  args.expect("jaccard", false);
  args.expect("reduction", "mean");
  args.expect("weight", Json());
  own["include_background"] = args.flag("include_background", true);
  own["squared_dice"] = args.flag("squared_pred", false);
  own["batch_dice"] = args.flag("batch", false);
  const double smooth = args.number("smooth_nr", 1e-5);
  args.expect("smooth_dr", smooth);
  own["dice_smooth"] = smooth;
  return own;
}

void set_loss(OwnDescription& own, const char* name, Json args) {
  own.root["loss"] = {{"name", name}, {"args", std::move(args)}};
}

void map_dice_and(ClaraArgs& args, OwnDescription& own, const char* name, const char* lambda) {
  Json loss = dice_args(args);
  loss["dice_weight"] = args.number("lambda_dice", 1);
  loss["ce_weight"] = args.number(lambda, 1);
  set_loss(own, name, loss);
}

void map_dice_focal(ClaraArgs& args, OwnDescription& own) {
  const double gamma = args.number("gamma", 2);
  args.expect("focal_weight", Json());
  args.note("focal loss of the softmax over classes, the background among them");
  map_dice_and(args, own, "dice_focal", "lambda_focal");
  own.root["loss"]["args"]["focal_gamma"] = gamma;
}

void map_focal(ClaraArgs& args, OwnDescription& own) {
  args.ignore("to_onehot_y", "");
  args.expect("include_background", true);
  args.expect("alpha", Json());
  args.expect("weight", Json());
  args.expect("reduction", "mean");
  args.expect("use_softmax", true);
  args.note("focal loss of the softmax over classes");
  set_loss(own, "focal", {{"focal_gamma", args.number("gamma", 2)}});
}

void map_generalized_dice(ClaraArgs& args, OwnDescription& own) {
  args.expect("w_type", "square");
  Json loss = dice_args(args);
  loss["generalized_dice"] = true;
  set_loss(own, "dice", loss);
}

// ---- optimizers and schedules

void map_adam_like(
    ClaraArgs& args, OwnDescription& own, const char* name, double beta2, double weight_decay) {
  args.ignore("params", "");
  args.expect("amsgrad", false);
  const std::vector<double> betas = args.numbers("betas", {0.9, beta2});
  if (betas.size() != 2) args.wrong("args.betas: expected two numbers, found ", betas.size());
  own.root["optimizer"] = {{"name", name},
                           {"args",
                            {{"lr", args.number("lr", 1e-3)},
                             {"beta1", betas[0]},
                             {"beta2", betas[1]},
                             {"epsilon", args.number("eps", 1e-8)},
                             {"weight_decay", args.number("weight_decay", weight_decay)},
                             {"clip_norm", 0},
                             {"average_decay", 0}}}};
}

void map_sgd(ClaraArgs& args, OwnDescription& own) {
  args.ignore("params", "");
  args.expect("dampening", 0.0);
  const double momentum = args.number("momentum", 0);
  if (!args.flag("nesterov", false) && momentum > 0) args.note("momentum is Nesterov's here");
  if (!args.has("lr")) args.wrong("args: expected the key \"lr\", found none");
  own.root["optimizer"] = {{"name", "sgd"},
                           {"args",
                            {{"lr", args.number("lr", 0)},
                             {"momentum", momentum},
                             {"weight_decay", args.number("weight_decay", 0)},
                             {"clip_norm", 0},
                             {"average_decay", 0}}}};
}

/// "every" epochs or steps, as LrScheduleHandler says; the driver leaves that in "by".
void set_schedule(ClaraArgs& args, OwnDescription& own, const char* name, Json values) {
  args.ignore("optimizer", "");
  args.ignore("last_epoch", "");
  args.ignore("verbose", "");
  own.root["schedule"] = {{"name", name}, {"args", std::move(values)}};
}

void refuse_plateau(ClaraArgs& args, OwnDescription&) {
  args.wrong(
      "needs validation while training, which VoxNAS does not do; take StepLR, MultiStepLR, "
      "ExponentialLR, CosineAnnealingLR or PolynomialLR");
}

void map_cosine(ClaraArgs& args, OwnDescription& own) {
  args.expect("eta_min", 0.0);
  args.ignore("T_max", "the cosine ends with the training");
  set_schedule(args, own, "cosine", Json::object());
}

void map_polynomial(ClaraArgs& args, OwnDescription& own) {
  args.ignore("total_iters", "the fall ends with the training");
  args.ignore("max_epochs", "the fall ends with the training");
  set_schedule(args, own, "poly", {{"power", args.number("power", 1)}});
}

// ---- transforms

void nothing_to_do(ClaraArgs& args,
                   const std::initializer_list<const char*>& ignored,
                   const char* said = nullptr) {
  for (const char* word : ignored) args.ignore(word, "");
  if (said != nullptr) args.note(said);
}

/// keys, allow_missing_keys and the like: which of image and label, which every step here knows.
void skip_keys(ClaraArgs& args) {
  for (const char* word : {"keys",
                           "allow_missing_keys",
                           "mode",
                           "padding_mode",
                           "align_corners",
                           "dtype",
                           "diagonal",
                           "meta_keys",
                           "meta_key_postfix"})
    args.ignore(word, "");
}

Json& data_args(OwnDescription& own) { return own.root["data"]["args"]; }

void map_spacing(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  const std::vector<double> pixdim = args.numbers("pixdim", {});
  if (pixdim.size() != 3) args.wrong("args.pixdim: expected three numbers, found ", pixdim.size());
  data_args(own)["spacing"] = {pixdim[2], pixdim[1], pixdim[0]};  // x y z -> D H W
}

void map_orientation(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.expect("as_closest_canonical", false);
  args.ignore("labels", "");
  data_args(own)["orientation"] = args.text("axcodes", "RAS");
}

void map_intensity_range(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.expect("clip", true);
  Json& data = data_args(own);
  data["intensity"] = "clip";
  data["clip"] = {args.any("a_min"), args.any("a_max")};
  data["to"] = {args.number("b_min", 0), args.number("b_max", 1)};
}

void map_normalize(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.expect("subtrahend", Json());
  args.expect("divisor", Json());
  args.ignore("channel_wise", "every channel has its own mean and deviation");
  Json& data = data_args(own);
  data["intensity"] = "zscore";
  data["nonzero"] = args.flag("nonzero", false);
}

/// Voxels x y z (or one number) as D H W.
Json extent(ClaraArgs& args, const std::string& name) {
  const Json& value = args.any(name);
  if (value.is_number_integer()) return Json::array({value, value, value});
  const std::vector<double> axes = args.numbers(name, {});
  if (axes.size() != 3) args.wrong("args.", name, ": expected three numbers, found ", axes.size());
  return Json::array({value[2], value[1], value[0]});
}

void map_crop_by_label(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  for (const char* word : {"label_key", "image_key"}) args.ignore(word, "");
  args.ignore("image_threshold", "background is drawn anywhere in the case");
  const double pos = args.number("pos", 1), neg = args.number("neg", 1);
  if (pos < 0 || neg < 0 || pos + neg <= 0)
    args.wrong("args: expected pos and neg of 0 or more, not both 0, found ", pos, " and ", neg);
  own.root["sampling"]["args"] = {{"patch", extent(args, "spatial_size")},
                                  {"foreground_fraction", pos / (pos + neg)}};
  own.root["patches_per_case"] = args.integer("num_samples", 1);
}

void map_crop_anywhere(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.expect("random_size", false);
  args.expect("random_center", true);
  args.ignore("max_roi_size", "the size is not random");
  own.root["sampling"]["args"] = {{"patch", extent(args, "roi_size")}, {"foreground_fraction", 0}};
}

void map_flip(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  const double prob = args.number("prob", 0.1);
  Json axes = Json::array({0, 1, 2});
  if (args.has("spatial_axis")) {
    axes = args.any("spatial_axis");
    if (axes.is_number_integer()) axes = Json::array({axes});
  } else {
    args.note("every axis is mirrored by its own chance (MONAI: all at once)");
  }
  Json values{{"d", 0}, {"h", 0}, {"w", 0}};
  for (const Json& axis : axes) {
    if (axis != 0 && axis != 1 && axis != 2)
      args.wrong("args.spatial_axis: expected 0, 1 or 2, found ", axis.dump());
    values[axis == 0 ? "w" : axis == 1 ? "h" : "d"] = 1;
  }
  own.augment(args, "mirror", prob, values);
}

void map_rotate90(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.ignore("max_k", "turned by any angle up to 90 degrees about every axis, not by quarters");
  args.ignore("spatial_axes", "turned about every axis");
  args.note("turned by any angle up to 90 degrees, not by quarters");
  own.augment(args, "rotate", args.number("prob", 0.1), {{"degrees", 90}, {"plane_degrees", 90}});
}

double largest(ClaraArgs& args, const std::initializer_list<const char*>& names) {
  double most = 0;
  for (const char* name : names) most = std::max(most, args.half_range(name, 0));
  return most;
}

void map_rotate(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.ignore("keep_size", "");
  const double degrees = largest(args, {"range_x", "range_y", "range_z"}) * 180 / std::numbers::pi;
  args.note("the largest of the three ranges holds for every axis");
  own.augment(
      args, "rotate", args.number("prob", 0.1), {{"degrees", degrees}, {"plane_degrees", degrees}});
}

void map_zoom(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.ignore("keep_size", "");
  const double low = args.number("min_zoom", 0.9), high = args.number("max_zoom", 1.1);
  if (low <= 0 || high < low)
    args.wrong("args: expected 0 < min_zoom <= max_zoom, found ", low, " and ", high);
  own.augment(args, "scale", args.number("prob", 0.1), {{"low", 1 / high}, {"high", 1 / low}});
}

/// The largest of a list of half ranges, each a number or a pair.
double largest_of_list(ClaraArgs& args, const char* name) {
  double most = 0;
  if (!args.has(name)) return most;
  const Json value = args.any(name);
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& each : list) {
    for (const Json& end : each.is_array() ? each : Json::array({each})) {
      if (!end.is_number()) args.wrong("args.", name, ": expected numbers, found ", end.dump());
      most = std::max(most, std::abs(end.get<double>()));
    }
  }
  return most;
}

void map_affine(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  for (const char* word : {"spatial_size", "cache_grid", "as_tensor_output", "device"})
    args.ignore(word, "");
  if (largest_of_list(args, "shear_range") > 0)
    args.wrong("args.shear_range: VoxNAS does not shear");
  if (largest_of_list(args, "translate_range") > 0)
    args.note("translate_range: the place of a patch is random anyway");
  args.ignore("translate_range", "");
  const double prob = args.number("prob", 0.1);
  const double degrees = largest_of_list(args, "rotate_range") * 180 / std::numbers::pi;
  const double scale = largest_of_list(args, "scale_range");
  if (scale >= 1) args.wrong("args.scale_range: expected less than 1, found ", scale);
  if (degrees > 0) {
    own.augment(args, "rotate", prob, {{"degrees", degrees}, {"plane_degrees", degrees}});
  }
  if (scale > 0)
    own.augment(args, "scale", prob, {{"low", 1 / (1 + scale)}, {"high", 1 / (1 - scale)}});
  args.note("rotation and scaling happen by chances of their own, the same for all axes");
}

void map_noise(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.expect("mean", 0.0);
  args.expect("sample_std", true);
  own.augment(
      args, "noise", args.number("prob", 0.1), {{"low", 0}, {"high", args.number("std", 0.1)}});
}

void map_smooth(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.ignore("approx", "");
  const std::vector<double> sigma = args.numbers("sigma_x", {0.25, 1.5});
  for (const char* word : {"sigma_y", "sigma_z"}) {
    if (args.numbers(word, sigma) != sigma)
      args.wrong("args.", word, ": expected the range of sigma_x; ours is the same on all axes");
  }
  if (sigma.size() != 2) args.wrong("args.sigma_x: expected two numbers, found ", sigma.size());
  own.augment(args,
              "blur",
              args.number("prob", 0.1),
              {{"low", sigma[0]}, {"high", sigma[1]}, {"channel_prob", 1}});
}

void map_shift(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  args.ignore("factor_key", "");
  own.augment(args,
              "shift_intensity",
              args.number("prob", 0.1),
              {{"offset", args.half_range("offsets", 0.1)}});
}

void map_scale_intensity(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  own.augment(args,
              "scale_intensity",
              args.number("prob", 0.1),
              {{"factor", args.half_range("factors", 0.1)}});
}

void map_contrast(ClaraArgs& args, OwnDescription& own) {
  skip_keys(args);
  std::vector<double> gamma{0.5, 4.5};
  if (args.has("gamma")) {
    gamma = args.any("gamma").is_number() ? std::vector<double>{0.5, args.number("gamma", 4.5)}
                                          : args.numbers("gamma", gamma);
  }
  if (gamma.size() != 2) args.wrong("args.gamma: expected one or two numbers");
  args.note("mean and deviation of the patch are kept (MONAI keeps its range)");
  own.augment(args, "gamma", args.number("prob", 0.1), {{"low", gamma[0]}, {"high", gamma[1]}});
}

#define NAS_FIXED(ours, ...) \
  [](ClaraArgs& args, OwnDescription& own) { fixed(args, own, ours, {__VA_ARGS__}); }

std::vector<ClaraClass> network_rows() {
  return {{"model", "UNet", "network monai-unet", map_unet},
          {"model", "BasicUNet", "network basic-unet", map_basic_unet},
          {"model", "DynUNet", "network dyn-unet", map_dyn_unet},
          {"model",
           "SegResNet",
           "refused",
           [](ClaraArgs& args, OwnDescription&) {
             args.wrong(
                 "SegResNet is made of group norm, which VoxNAS does not have; nearest is UNet "
                 "with num_res_units, or the planner's residual U-Net (DynUNet)");
           }},
          {"model",
           "VNet",
           "network v-net",
           NAS_FIXED("v-net", "act", "dropout_prob", "dropout_dim", "bias")},
          {"model",
           "AHNet",
           "network ah-net",
           [](ClaraArgs& args, OwnDescription& own) {
             if (args.text("upsample_mode", "transpose") != "trilinear")
               args.wrong("args.upsample_mode: expected trilinear, found ",
                          args.text("upsample_mode", "transpose"));
             fixed(args, own, "ah-net", {"layers", "psp_block_num", "pretrained", "progress"});
           }},
          {"model",
           "AttentionUnet",
           "network attention-unet",
           [](ClaraArgs& args, OwnDescription& own) {
             args.expect("channels", {64, 128, 256, 512, 1024});
             args.expect("strides", {2, 2, 2, 2});
             fixed(args, own, "attention-unet", {"kernel_size", "up_kernel_size", "dropout"});
           }},
          {"model",
           "DiNTS",
           "network dints",
           NAS_FIXED("dints", "dints_space", "act_name", "norm_name", "use_downsample", "node_a")}};
}

std::vector<ClaraClass> training_rows() {
  return {
      {"loss",
       "DiceLoss",
       "loss dice",
       [](ClaraArgs& args, OwnDescription& own) { set_loss(own, "dice", dice_args(args)); }},
      {"loss",
       "DiceCELoss",
       "loss dice_ce",
       [](ClaraArgs& args, OwnDescription& own) {
         args.expect("ce_weight", Json());
         map_dice_and(args, own, "dice_ce", "lambda_ce");
       }},
      {"loss", "DiceFocalLoss", "loss dice_focal", map_dice_focal},
      {"loss", "FocalLoss", "loss focal", map_focal},
      {"loss", "GeneralizedDiceLoss", "loss dice, generalized", map_generalized_dice},
      {"optimizer",
       "Adam",
       "optimizer adam",
       [](ClaraArgs& args, OwnDescription& own) { map_adam_like(args, own, "adam", 0.999, 0); }},
      {"optimizer",
       "AdamW",
       "optimizer adamw",
       [](ClaraArgs& args, OwnDescription& own) {
         map_adam_like(args, own, "adamw", 0.999, 0.01);
       }},
      {"optimizer", "SGD", "optimizer sgd", map_sgd},
      {"optimizer",
       "Novograd",
       "optimizer novograd",
       [](ClaraArgs& args, OwnDescription& own) {
         args.expect("grad_averaging", false);
         map_adam_like(args, own, "novograd", 0.98, 0);
       }},
      {"lr_scheduler",
       "StepLR",
       "schedule step",
       [](ClaraArgs& args, OwnDescription& own) {
         set_schedule(
             args,
             own,
             "step",
             {{"every_epochs", args.any("step_size")}, {"gamma", args.number("gamma", 0.1)}});
       }},
      {"lr_scheduler",
       "MultiStepLR",
       "schedule multistep",
       [](ClaraArgs& args, OwnDescription& own) {
         set_schedule(
             args,
             own,
             "multistep",
             {{"milestones_epochs", args.any("milestones")}, {"gamma", args.number("gamma", 0.1)}});
       }},
      {"lr_scheduler",
       "ExponentialLR",
       "schedule step, every epoch",
       [](ClaraArgs& args, OwnDescription& own) {
         set_schedule(args, own, "step", {{"every_epochs", 1}, {"gamma", args.any("gamma")}});
       }},
      {"lr_scheduler", "CosineAnnealingLR", "schedule cosine", map_cosine},
      {"lr_scheduler", "PolynomialLR", "schedule poly", map_polynomial},
      {"lr_scheduler", "ReduceLROnPlateau", "refused", refuse_plateau}};
}

std::vector<ClaraClass> transform_rows() {
  return {
      {"transform",
       "LoadImaged",
       "",
       [](ClaraArgs& args, OwnDescription&) {
         skip_keys(args);
         nothing_to_do(args, {"reader", "image_only", "overwriting", "ensure_channel_first"});
       }},
      {"transform",
       "EnsureChannelFirstd",
       "",
       [](ClaraArgs& args, OwnDescription&) {
         skip_keys(args);
         nothing_to_do(args, {"strict_check", "channel_dim"});
       }},
      {"transform", "ToTensord", "", [](ClaraArgs& args, OwnDescription&) { skip_keys(args); }},
      {"transform", "Orientationd", "data orientation", map_orientation},
      {"transform", "Spacingd", "data spacing", map_spacing},
      {"transform", "ScaleIntensityRanged", "data intensity clip", map_intensity_range},
      {"transform", "NormalizeIntensityd", "data intensity zscore", map_normalize},
      {"transform",
       "CropForegroundd",
       "",
       [](ClaraArgs& args, OwnDescription&) {
         skip_keys(args);
         nothing_to_do(args,
                       {"source_key",
                        "select_fn",
                        "channel_indices",
                        "margin",
                        "k_divisible",
                        "start_coord_key",
                        "end_coord_key"},
                       "cases are cropped to what is not zero, before resampling");
       }},
      {"transform",
       "SpatialPadd",
       "",
       [](ClaraArgs& args, OwnDescription&) {
         skip_keys(args);
         nothing_to_do(args, {"spatial_size", "method"}, "patches beyond a case are padded with 0");
       }},
      {"transform", "RandCropByPosNegLabeld", "sampling", map_crop_by_label},
      {"transform", "RandSpatialCropd", "sampling", map_crop_anywhere},
      {"transform", "RandFlipd", "augmentation mirror", map_flip},
      {"transform", "RandRotate90d", "augmentation rotate", map_rotate90},
      {"transform", "RandRotated", "augmentation rotate", map_rotate},
      {"transform", "RandZoomd", "augmentation scale", map_zoom},
      {"transform", "RandAffined", "augmentation rotate, scale", map_affine},
      {"transform", "RandGaussianNoised", "augmentation noise", map_noise},
      {"transform", "RandGaussianSmoothd", "augmentation blur", map_smooth},
      {"transform", "RandShiftIntensityd", "augmentation shift_intensity", map_shift},
      {"transform", "RandScaleIntensityd", "augmentation scale_intensity", map_scale_intensity},
      {"transform", "RandAdjustContrastd", "augmentation gamma", map_contrast}};
}

/// Trials are scored by it, on cases held out of training.
void set_metric(ClaraArgs& args, OwnDescription& own, const char* metric) {
  args.ignore("include_background", "the background never counts");
  nothing_to_do(args, {"output_transform", "device", "reduction"});
  own.root["validation"] = {{"args", {{"metric", metric}}}};
}

void map_hausdorff(ClaraArgs& args, OwnDescription& own) {
  args.expect("distance_metric", "euclidean");
  args.expect("directed", false);
  const double percentile = args.number("percentile", 100);
  if (percentile != 95 && percentile != 100)
    args.wrong("args.percentile: expected 95, or none for the largest distance, found ",
               percentile);
  args.note("distances are in mm (MONAI counts voxels unless it is told the spacing)");
  set_metric(args, own, percentile == 95 ? "hd95_mm" : "hd_mm");
}

void map_surface_distance(ClaraArgs& args, OwnDescription& own) {
  args.expect("distance_metric", "euclidean");
  if (!args.flag("symmetric", false))
    args.note("distances of both surfaces count (MONAI: \"symmetric\": true)");
  args.note("distances are in mm (MONAI counts voxels unless it is told the spacing)");
  set_metric(args, own, "assd_mm");
}

std::vector<ClaraClass> metric_rows() {
  return {{"key_metric",
           "MeanDice",
           "metric dice",
           [](ClaraArgs& args, OwnDescription& own) { set_metric(args, own, "dice"); }},
          {"key_metric", "HausdorffDistance", "metric hd95_mm, hd_mm", map_hausdorff},
          {"key_metric", "SurfaceDistance", "metric assd_mm", map_surface_distance}};
}

}  // namespace

const std::vector<ClaraClass>& clara_classes() {
  static const std::vector<ClaraClass> table = [] {
    std::vector<ClaraClass> rows = network_rows();
    for (const auto& part : {training_rows(), transform_rows(), metric_rows()})
      rows.insert(rows.end(), part.begin(), part.end());
    return rows;
  }();
  return table;
}

const ClaraClass& clara_class(std::string_view block,
                              const std::string& name,
                              const std::string& where) {
  std::vector<std::string> known;
  for (const ClaraClass& row : clara_classes()) {
    if (row.block != block) continue;
    if (row.name == name) return row;
    known.emplace_back(row.name);
  }
  fail(ErrorKind::Input,
       where,
       ": VoxNAS has nothing for ",
       block,
       " '",
       name,
       "'; it knows ",
       joined(known),
       did_you_mean(name, known));
}

}  // namespace nas
