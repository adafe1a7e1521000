// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/network_file.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "search_spaces/c2fnas.h"
#include "search_spaces/plan.h"
#include "search_spaces/search_space.h"
#include "search_spaces/vnas.h"

namespace nas {
namespace {

constexpr std::int64_t kMaxFileBytes = 64 << 20;

std::vector<Extent3> extents(const JsonReader& list) {
  std::vector<Extent3> values;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::vector<std::int64_t> item = list.at(i).integers();
    NAS_CHECK(item.size() == 3,
              list.at(i).where(),
              ": expected three integers (a 3D configuration), found ",
              item.size());
    values.push_back({item[0], item[1], item[2]});
  }
  return values;
}

/// One number for all stages, or one per stage.
std::vector<std::int64_t> per_stage(const JsonReader& value, std::size_t stages) {
  if (value.json().is_array()) return value.integers();
  return std::vector<std::int64_t>(stages, value.integer());
}

Configuration nnunet_configuration(const JsonReader& plans, const NetworkFileOptions& options) {
  const JsonReader all = plans.at("configurations");
  if (!all.has(options.configuration)) {
    std::string known;
    for (const std::string& name : all.keys()) known += (known.empty() ? "" : ", ") + name;
    fail(ErrorKind::Usage,
         plans.where(),
         ": no configuration '",
         options.configuration,
         "'; it has ",
         known);
  }
  const JsonReader planned = all.at(options.configuration);
  const JsonReader architecture = planned.at("architecture");
  const std::string network = architecture.at("network_class_name").text();
  Configuration c;
  c.name = options.configuration;
  c.batch = planned.at("batch_size").integer(1, 1 << 20);
  const std::vector<std::int64_t> patch = planned.at("patch_size").integers();
  NAS_CHECK(patch.size() == 3,
            planned.at("patch_size").where(),
            ": expected three integers, found ",
            patch.size());
  c.patch = {patch[0], patch[1], patch[2]};
  c.normalization = planned.at("normalization_schemes").texts();
  c.use_mask_for_norm.assign(c.normalization.size(), false);
  const JsonReader kwargs = architecture.at("arch_kwargs");
  UnetArchitecture& a = c.architecture;
  a.residual = network.ends_with("ResidualEncoderUNet");
  NAS_CHECK(a.residual || network.ends_with("PlainConvUNet"),
            architecture.where(),
            ": expected PlainConvUNet or ResidualEncoderUNet, found ",
            network.substr(0, 120));
  a.in_channels = static_cast<std::int64_t>(c.normalization.size());
  a.classes = options.classes;
  a.features = kwargs.at("features_per_stage").integers();
  a.strides = extents(kwargs.at("strides"));
  a.kernels = extents(kwargs.at("kernel_sizes"));
  const std::size_t stages = a.features.size();
  a.blocks = per_stage(kwargs.at(a.residual ? "n_blocks_per_stage" : "n_conv_per_stage"), stages);
  a.decoder_convs = per_stage(kwargs.at("n_conv_per_stage_decoder"), stages > 0 ? stages - 1 : 0);
  return c;
}

NetworkFile point_of(const SearchSpace& space, std::int64_t batch, const std::string& genotype) {
  const Genotype chosen = genotype.empty() ? space.start() : space.from_text(genotype);
  const std::string reason = space.invalid_reason(chosen);
  NAS_CHECK_KIND(Usage, reason.empty(), "genotype '", genotype, "': ", reason);
  Phenotype built = space.build(chosen);
  return {std::move(built.graph), built.patch, batch};
}

NetworkFile planned(const Configuration& configuration, const NetworkFileOptions& options) {
  return point_of(
      *space_for_plan(options.space, configuration), configuration.batch, options.genotype);
}

/// The preset `name`, if there is one.
std::optional<NetworkFile> preset(const std::string& name, const NetworkFileOptions& options) {
  constexpr Extent3 kPatch{96, 96, 96};
  if (name == "c2fnas-panc")
    return NetworkFile{make_c2fnas(c2fnas_panc(options.channels, options.classes)), kPatch, 0};
  constexpr std::string_view kVnas = "vnas:";
  if (name.starts_with(kVnas)) {
    VnasNetwork network;
    network.in_channels = options.channels;
    network.classes = options.classes;
    network.code = named_vnas_code(name.substr(kVnas.size()));
    network.name = "vnas " + to_text(network.code);
    return NetworkFile{make_vnas(network), kPatch, 0};
  }
  return std::nullopt;
}

Extent3 patch_of_model(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "preprocessing.json";
  if (!std::filesystem::exists(file)) return {0, 0, 0};
  const Json value = read_json(file, kMaxFileBytes);
  const JsonReader patch = JsonReader(value, file.string()).at("patch");
  const std::vector<std::int64_t> sizes = patch.integers();
  NAS_CHECK(sizes.size() == 3, patch.where(), ": expected three integers, found ", sizes.size());
  return {sizes[0], sizes[1], sizes[2]};
}

}  // namespace

std::vector<std::string> preset_names() {
  return {"c2fnas-panc", "vnas:2d", "vnas:mix", "vnas:3d", "vnas:msd-pancreas", "vnas:CODE"};
}

NetworkFile load_network(const std::string& name, const NetworkFileOptions& options) {
  namespace fs = std::filesystem;
  fs::path file = name;
  NetworkFile loaded;
  if (!fs::exists(file)) {
    if (std::optional<NetworkFile> published = preset(name, options)) return *published;
    const std::vector<std::string> spaces = space_names();
    if (std::ranges::find(spaces, name) != spaces.end()) {
      return point_of(*make_space(example_description(name)), 0, options.genotype);
    }
    const auto listed = [](const std::vector<std::string>& words) {
      std::string text;
      for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
      return text;
    };
    fail(ErrorKind::Usage,
         name,
         ": neither a file or folder, nor a published network (",
         listed(preset_names()),
         "), nor the name of a search space (",
         listed(spaces),
         ")");
  }
  if (fs::is_directory(file)) {
    NAS_CHECK(
        fs::exists(file / "network.json"), name, ": expected a model folder with network.json");
    loaded.patch = patch_of_model(file);
    file /= "network.json";
  }
  const Json value = read_json(file, kMaxFileBytes);
  const JsonReader reader(value, file.string());
  const bool is_graph = reader.has("nodes");
  NAS_CHECK_KIND(Usage,
                 !is_graph || options.genotype.empty(),
                 file.string(),
                 ": a genotype needs a plan or a search space, not a finished network");
  if (is_graph) {
    loaded.graph = graph_from_json(value, file.string());
    return loaded;
  }
  if (reader.has("format")) {
    return planned(plan_from_json(value, file.string()).configuration(options.configuration),
                   options);
  }
  NAS_CHECK(reader.has("configurations"),
            file.string(),
            ": expected a network (voxnas.graph), a plan (voxnas.plan) or nnU-Net's plans.json");
  return planned(nnunet_configuration(reader, options), options);
}

}  // namespace nas
