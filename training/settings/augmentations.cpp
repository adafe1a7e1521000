// SPDX-License-Identifier: Apache-2.0
#include "training/settings/augmentations.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

using Arg = AugmentationKind::Arg;
using Widen = Arg::Widen;

/// A factor from low..high; if 1 lies between, below and above 1 with equal probability.
double draw_factor(Rng& rng, double low, double high) {
  if (low >= 1 || high <= 1) return rng.uniform(low, high);
  return rng.chance(0.5) ? rng.uniform(low, 1.0) : rng.uniform(1.0, high);
}

void draw_rotate(const Augmentation& wanted,
                 const AugmentPlace& place,
                 Rng& rng,
                 AugmentPlan& plan) {
  plan.affine = true;
  const double range = wanted.args[place.anisotropic ? 1 : 0] * std::numbers::pi / 180.0;
  for (std::size_t a = 0; a < 3; ++a) {
    const double angle = rng.uniform(-range, range);
    if (a == 0 || !place.anisotropic) plan.angle[a] = angle;
  }
}

void draw_scale(const Augmentation& wanted,
                const AugmentPlace& place,
                Rng& rng,
                AugmentPlan& plan) {
  plan.affine = true;
  const double factor = rng.uniform(wanted.args[0], wanted.args[1]);
  plan.scale = {place.anisotropic ? 1.0 : factor, factor, factor};
}

void draw_translate(const Augmentation& wanted,
                    const AugmentPlace& place,
                    Rng& rng,
                    AugmentPlan& plan) {
  for (std::size_t a = 0; a < 3; ++a) {
    const double most = wanted.args[0] * static_cast<double>(place.patch[a]);
    plan.translate[a] = std::llround(rng.uniform(-most, most));
  }
}

void draw_mirror(const Augmentation& wanted,
                 const AugmentPlace& place,
                 Rng& rng,
                 AugmentPlan& plan) {
  for (std::size_t a = 0; a < 3; ++a) {
    plan.flip[a] = rng.chance(wanted.prob * wanted.args[a]) && place.patch[a] > 1;
  }
}

void draw_noise(const Augmentation& wanted, const AugmentPlace&, Rng& rng, AugmentPlan& plan) {
  plan.noise_deviation = rng.uniform(wanted.args[0], wanted.args[1]);
  plan.noise_key = rng.bits64();
}

void draw_blur(const Augmentation& wanted, const AugmentPlace&, Rng& rng, AugmentPlan& plan) {
  for (ChannelPlan& channel : plan.channels) {
    const bool chosen = rng.chance(wanted.args[2]);
    for (double& sigma : channel.blur_sigma) {
      const double drawn = rng.uniform(wanted.args[0], wanted.args[1]);
      if (chosen) sigma = drawn;
    }
  }
}

void draw_low_resolution(const Augmentation& wanted,
                         const AugmentPlace& place,
                         Rng& rng,
                         AugmentPlan& plan) {
  for (ChannelPlan& channel : plan.channels) {
    const bool chosen = rng.chance(wanted.args[2]);
    const double zoom = rng.uniform(wanted.args[0], wanted.args[1]);
    if (chosen) channel.zoom = {place.anisotropic ? 1.0 : zoom, zoom, zoom};
  }
}

template <double ChannelPlan::*member>
void draw_factors(const Augmentation& wanted, const AugmentPlace&, Rng& rng, AugmentPlan& plan) {
  for (ChannelPlan& channel : plan.channels) {
    channel.*member = draw_factor(rng, wanted.args[0], wanted.args[1]);
  }
}

void draw_scale_intensity(const Augmentation& wanted,
                          const AugmentPlace&,
                          Rng& rng,
                          AugmentPlan& plan) {
  const double factor = 1 + rng.uniform(-wanted.args[0], wanted.args[0]);
  for (ChannelPlan& channel : plan.channels) channel.scale = factor;
}

void draw_shift_intensity(const Augmentation& wanted,
                          const AugmentPlace&,
                          Rng& rng,
                          AugmentPlan& plan) {
  const double offset = rng.uniform(-wanted.args[0], wanted.args[0]);
  for (ChannelPlan& channel : plan.channels) channel.shift = offset;
}

void draw_channel_dropout(const Augmentation& wanted,
                          const AugmentPlace&,
                          Rng& rng,
                          AugmentPlan& plan) {
  const auto kept =
      static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(plan.channels.size())));
  for (std::size_t c = 0; c < plan.channels.size(); ++c) {
    const bool chosen = rng.chance(wanted.args[0]);
    if (chosen && c != kept) {
      plan.channels[c].drop = true;
      plan.channels[c].drop_to_mean = wanted.args[1] > 0;
    }
  }
}

std::vector<Arg> factor_range(double low, double high, const char* what) {
  return {{"low", low, 0.05, 20, Widen::Power, what}, {"high", high, 0.05, 20, Widen::Power, what}};
}

std::vector<AugmentationKind> make_kinds() {
  const Arg channel_prob{
      "channel_prob", 0.5, 0, 1, Widen::No, "probability of each channel, where it happens"};
  const char* zoom = "share of the voxels kept";
  const char* axis = "the probability along this axis is prob times it";
  return {
      {"rotate",
       "rotation",
       true,
       true,
       0.2,
       {{"degrees", 30, 0, 180, Widen::Times, "largest angle about each axis"},
        {"plane_degrees", 180, 0, 180, Widen::Times, "of an anisotropic patch, in plane"}},
       draw_rotate},
      {"scale",
       "scaling",
       true,
       true,
       0.2,
       factor_range(0.7, 1.4, "source voxels per patch voxel"),
       draw_scale},
      {"crop_translate",
       "crop translate",
       false,
       true,
       0.2,
       {{"share", 0.1, 0, 1, Widen::Times, "of the patch's size, largest move along an axis"}},
       draw_translate},
      {"mirror",
       "mirror",
       true,
       false,
       0.5,
       {{"d", 1, 0, 1, Widen::No, axis},
        {"h", 1, 0, 1, Widen::No, axis},
        {"w", 1, 0, 1, Widen::No, axis}},
       draw_mirror},
      {"noise",
       "noise",
       true,
       true,
       0.1,
       {{"low", 0, 0, 10, Widen::No, "smallest deviation"},
        {"high", 0.1, 0, 10, Widen::Times, "largest deviation"}},
       draw_noise},
      {"blur",
       "blur",
       true,
       true,
       0.2,
       {{"low", 0.5, 0, 3, Widen::No, "smallest sigma, voxels"},
        {"high", 1, 0, 3, Widen::Times, "largest sigma, voxels"},
        channel_prob},
       draw_blur},
      {"brightness",
       "brightness",
       true,
       true,
       0.15,
       factor_range(0.75, 1.25, "factor"),
       draw_factors<&ChannelPlan::brightness>},
      {"contrast",
       "contrast",
       true,
       true,
       0.15,
       factor_range(0.75, 1.25, "factor"),
       draw_factors<&ChannelPlan::contrast>},
      {"low_resolution",
       "low resolution",
       true,
       true,
       0.25,
       {{"low", 0.5, 0.05, 1, Widen::Power, zoom},
        {"high", 1, 0.05, 1, Widen::Power, zoom},
        channel_prob},
       draw_low_resolution},
      {"gamma_inverted",
       "gamma inverted",
       true,
       true,
       0.1,
       factor_range(0.7, 1.5, "exponent on the negated image"),
       draw_factors<&ChannelPlan::gamma_inverted>},
      {"gamma",
       "gamma",
       true,
       true,
       0.3,
       factor_range(0.7, 1.5, "exponent"),
       draw_factors<&ChannelPlan::gamma>},
      {"scale_intensity",
       "scale intensity",
       false,
       true,
       0.5,
       {{"factor", 0.3, 0, 1, Widen::Times, "largest share that is added or taken"}},
       draw_scale_intensity},
      {"shift_intensity",
       "shift intensity",
       false,
       true,
       0.5,
       {{"offset", 0.1, 0, 100, Widen::Times, "largest offset, in normalised intensities"}},
       draw_shift_intensity},
      {"channel_dropout",
       "channel dropout",
       false,
       true,
       0.2,
       {channel_prob, {"to_mean", 0, 0, 1, Widen::No, "0: becomes 0; 1: its mean in the patch"}},
       draw_channel_dropout},
  };
}

double widened(const Arg& arg, double value, double factor) {
  if (arg.widen == Widen::Times) value *= factor;
  if (arg.widen == Widen::Power) value = std::pow(value, factor);
  return std::clamp(value, arg.low, arg.high);
}

std::size_t place_of(const AugmentationKind& kind) {
  return static_cast<std::size_t>(&kind - augmentation_kinds().data());
}

/// The value of a number in [low, high], or an error naming all three.
double number_in(const JsonReader& reader, double low, double high) {
  const double value = reader.number();
  NAS_CHECK_KIND(Usage,
                 value >= low && value <= high,
                 reader.where(),
                 ": expected a number in [",
                 low,
                 ", ",
                 high,
                 "], found ",
                 value);
  return value;
}

Augmentation read_row(const JsonReader& row) {
  row.check_keys({"name", "prob", "args"});
  const AugmentationKind& kind = augmentation_kind(row.at("name").text(), row.where());
  Augmentation wanted = planned_augmentation(kind.name);
  if (row.has("prob")) wanted.prob = number_in(row.at("prob"), 0, 1);
  if (!row.has("args")) return wanted;
  const JsonReader args = row.at("args");
  std::vector<std::string> known;
  for (const Arg& arg : kind.args) known.emplace_back(arg.name);
  args.check_keys(known);
  double low = 0;
  for (std::size_t i = 0; i < kind.args.size(); ++i) {
    const Arg& arg = kind.args[i];
    double& value = wanted.args[i];
    if (args.has(arg.name)) value = number_in(args.at(arg.name), arg.low, arg.high);
    if (std::string_view(arg.name) == "low") low = value;
    NAS_CHECK_KIND(Usage,
                   std::string_view(arg.name) != "high" || low <= value,
                   args.where(),
                   ": expected low <= high, found ",
                   low,
                   " and ",
                   value);
    NAS_CHECK_KIND(Usage,
                   std::string_view(arg.name) != "to_mean" || value == 0 || value == 1,
                   args.where(),
                   ".to_mean: expected 0 or 1, found ",
                   value);
  }
  return wanted;
}

}  // namespace

const std::vector<AugmentationKind>& augmentation_kinds() {
  static const std::vector<AugmentationKind> kinds = make_kinds();
  return kinds;
}

const AugmentationKind& augmentation_kind(std::string_view name, const std::string& where) {
  std::vector<std::string> known;
  for (const AugmentationKind& kind : augmentation_kinds()) {
    if (kind.name == name) return kind;
    known.emplace_back(kind.name);
  }
  fail(ErrorKind::Usage,
       where,
       ": no augmentation '",
       std::string(name),
       "'",
       did_you_mean(name, known),
       " (known: ",
       joined(known),
       ")");
}

Augmentation planned_augmentation(std::string_view name) {
  const AugmentationKind& kind = augmentation_kind(name, "augmentations");
  Augmentation row{kind.name, kind.prob, {}};
  for (const Arg& arg : kind.args) row.args.push_back(arg.planned);
  return row;
}

std::vector<Augmentation> standard_augmentations() {
  std::vector<Augmentation> list;
  for (const AugmentationKind& kind : augmentation_kinds()) {
    if (kind.standard) list.push_back(planned_augmentation(kind.name));
  }
  return list;
}

std::vector<Augmentation> at_strength(const std::vector<Augmentation>& list, double strength) {
  NAS_CHECK_KIND(Usage,
                 strength >= 0 && strength <= 2,
                 "augmentation strength must be in [0, 2], got ",
                 strength);
  if (strength == 0) return {};
  std::vector<Augmentation> result = list;
  const double wide = std::max(1.0, strength);
  for (Augmentation& row : result) {
    const AugmentationKind& kind = augmentation_kind(row.name, "augmentations");
    if (kind.by_sample) row.prob = std::min(1.0, row.prob * strength);
    for (std::size_t i = 0; i < row.args.size(); ++i) {
      row.args[i] = widened(kind.args[i], row.args[i], wide);
    }
  }
  return result;
}

AugmentPlan draw_plan(const std::vector<Augmentation>& list,
                      const AugmentPlace& place,
                      std::int64_t channels,
                      const Rng& rng) {
  NAS_CHECK_KIND(Shape, channels >= 1, "draw_plan: expected channels >= 1, got ", channels);
  AugmentPlan plan;
  plan.channels.resize(static_cast<std::size_t>(channels));
  for (const Augmentation& wanted : list) {
    const AugmentationKind& kind = augmentation_kind(wanted.name, "augmentations");
    Rng own = rng.split(kind.stream);
    if (kind.by_sample && !own.chance(wanted.prob)) continue;
    kind.draw(wanted, place, own, plan);
  }
  return plan;
}

bool mirrors(const std::vector<Augmentation>& list) {
  return std::ranges::any_of(
      list, [](const Augmentation& row) { return row.name == "mirror" && row.prob > 0; });
}

Json to_json(const std::vector<Augmentation>& list) {
  Json rows = Json::array();
  for (const Augmentation& row : list) {
    const AugmentationKind& kind = augmentation_kind(row.name, "augmentations");
    Json args = Json::object();
    for (std::size_t i = 0; i < kind.args.size(); ++i) args[kind.args[i].name] = row.args[i];
    rows.push_back({{"name", row.name}, {"prob", row.prob}, {"args", std::move(args)}});
  }
  return rows;
}

std::vector<Augmentation> augmentations_from_json(const JsonReader& reader) {
  NAS_CHECK(reader.json().is_array(),
            reader.where(),
            ": expected a list of augmentations, found ",
            reader.json().dump());
  std::vector<Augmentation> list;
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const JsonReader row = reader.at(i);
    list.push_back(read_row(row));
    const auto twice = std::ranges::count(list, list.back().name, &Augmentation::name) > 1;
    NAS_CHECK_KIND(Usage,
                   !twice,
                   row.where(),
                   ": '",
                   list.back().name,
                   "' stands in the list twice; each augmentation happens once to a sample");
  }
  std::ranges::sort(list, {}, [](const Augmentation& row) {
    return place_of(augmentation_kind(row.name, "augmentations"));
  });
  return list;
}

}  // namespace nas
