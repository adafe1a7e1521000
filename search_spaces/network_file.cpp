// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/network_file.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "search_spaces/planned_unet/nnunet_plans.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/reference_networks/reference_networks.h"
#include "search_spaces/spaces.h"

namespace nas {
namespace {

constexpr std::int64_t kMaxFileBytes = 64 << 20;

NetworkFile point_of(const SearchSpace& space, std::int64_t batch, const std::string& genotype) {
  const Genotype chosen = genotype.empty() ? space.start() : space.from_text(genotype);
  const std::string reason = space.invalid_reason(chosen);
  NAS_CHECK_KIND(Usage, reason.empty(), "genotype '", genotype, "': ", reason);
  Phenotype built = space.build(chosen);
  return {std::move(built.graph), built.patch, batch};
}

NetworkIo io_of(const NetworkFileOptions& options, NetworkIo io) {
  if (options.channels) io.in_channels = options.channels;
  if (options.classes) io.classes = options.classes;
  if (options.patch != Extent3{0, 0, 0}) io.patch = options.patch;
  return io;
}

/// The convolutions whose channels are those of node `i`: behind it, past operations that leave
/// channels alone.
void find_heads(const Graph& graph, int i, std::vector<int>& heads) {
  const Node& node = graph.nodes[static_cast<std::size_t>(i)];
  if (node.op == "conv" || node.op == "conv_transpose") {
    heads.push_back(i);
    return;
  }
  const Operation& row = operation(node);
  NAS_CHECK(row.channels == nullptr,
            node_label(node),
            ": the number of classes comes from here; expected a convolution, so that the network "
            "can be adapted to another number");
  for (const int input : node.inputs) find_heads(graph, input, heads);
}

/// A finished network against what is asked of it.
void fit_graph(NetworkFile& loaded, const NetworkFileOptions& options, const std::string& where) {
  if (!options.channels && !options.classes) return;
  NAS_CHECK(loaded.graph.is_closed(), where, ": expected a network without open choices");
  const auto [channels, classes] = network_ends(loaded.graph);
  const std::int64_t wanted_channels = options.channels ? options.channels : channels;
  const std::int64_t wanted_classes = options.classes ? options.classes : classes;
  if (channels == wanted_channels && classes == wanted_classes) return;
  NAS_CHECK_KIND(Shape,
                 options.adapt,
                 where,
                 ": the network reads ",
                 channels,
                 " channels and gives ",
                 classes,
                 " classes; asked for are ",
                 wanted_channels,
                 " and ",
                 wanted_classes);
  loaded.graph = adapt_network(loaded.graph, wanted_channels, wanted_classes);
  loaded.adapted = true;
}

/// The planned network; a plan of another task is rewritten for this one where that is asked for.
NetworkFile planned(Configuration configuration,
                    const NetworkFileOptions& options,
                    const std::string& where) {
  UnetArchitecture& a = configuration.architecture;
  const UnetArchitecture before = a;
  if (options.adapt && options.channels) a.in_channels = options.channels;
  if (options.adapt && options.classes) a.classes = options.classes;
  NetworkFile loaded = point_of(
      *space_for_plan(options.space, configuration), configuration.batch, options.genotype);
  loaded.adapted = a != before;
  fit_graph(loaded, options, where);
  return loaded;
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

std::vector<std::string> network_names() {
  std::vector<std::string> names = reference_network_names();
  for (const std::string& space : space_names()) names.push_back(space);
  return names;
}

Graph adapt_network(const Graph& graph, std::int64_t channels, std::int64_t classes) {
  Graph result = graph;
  for (const int input : result.input_nodes()) {
    result.nodes[static_cast<std::size_t>(input)].attributes["channels"] = channels;
  }
  std::vector<int> heads;
  for (const int output : result.output_nodes()) find_heads(result, output, heads);
  for (const int head : heads) {
    result.nodes[static_cast<std::size_t>(head)].attributes["out_channels"] = classes;
  }
  validate(result);
  NAS_CHECK(network_ends(result).classes == classes,
            "network '",
            graph.name,
            "': cannot be adapted to ",
            classes,
            " classes");
  return result;
}

NetworkFile load_network(const std::string& name, const NetworkFileOptions& options) {
  namespace fs = std::filesystem;
  NetworkFile loaded;
  const auto no_genotype = [&](const std::string& what) {
    NAS_CHECK_KIND(Usage,
                   options.genotype.empty(),
                   what,
                   ": a genotype needs a plan or a search space, not a finished network");
  };
  if (const ReferenceNetwork* known = find_reference_network(name)) {
    no_genotype(name);
    const NetworkIo io = io_of(options, known->defaults);
    return {.graph = known->make(io), .patch = io.patch};
  }
  constexpr std::string_view kVnas = "vnas:";  // any code, not only the named ones of the table
  if (name.starts_with(kVnas)) {
    no_genotype(name);
    const NetworkIo io = io_of(options, {});
    return {.graph = make_vnas_network(io, name.substr(kVnas.size())), .patch = io.patch};
  }
  if (const std::vector<std::string> spaces = space_names();
      std::ranges::find(spaces, name) != spaces.end()) {
    loaded = point_of(*make_space(example_description(name)), 0, options.genotype);
    fit_graph(loaded, options, name);
    return loaded;
  }
  fs::path file = name;
  if (!fs::exists(file)) {
    const std::vector<std::string> names = network_names();
    fail(ErrorKind::Usage,
         name,
         ": neither a file or folder nor the name of a network or search space (",
         joined(names),
         ")",
         did_you_mean(name, names));
  }
  if (fs::is_directory(file)) {
    NAS_CHECK(
        fs::exists(file / "network.json"), name, ": expected a model folder with network.json");
    loaded.patch = patch_of_model(file);
    file /= "network.json";
  }
  if (file.extension() == ".ts") {
    no_genotype(file.string());
    loaded.graph = torchscript_network(file.string(),
                                       options.channels ? options.channels : 1,
                                       options.classes ? options.classes : 2);
    return loaded;
  }
  const Json value = read_json(file, kMaxFileBytes);
  const JsonReader reader(value, file.string());
  if (reader.has("nodes")) {
    no_genotype(file.string());
    loaded.graph = graph_from_json(value, file.string());
    resolve_files(loaded.graph, file.parent_path().string());
    fit_graph(loaded, options, file.string());
    return loaded;
  }
  if (reader.has("arch_code_a")) {
    no_genotype(file.string());
    const NetworkIo io = io_of(options, find_reference_network("dints")->defaults);
    return {.graph = make_dints(io, dints_code_from_json(value, file.string())), .patch = io.patch};
  }
  if (reader.has("format")) {
    return planned(plan_from_json(value, file.string()).configuration(options.configuration),
                   options,
                   file.string());
  }
  NAS_CHECK(reader.has("configurations"),
            file.string(),
            ": expected a network (voxnas.graph), a plan (voxnas.plan), nnU-Net's plans.json or "
            "DiNTS codes (arch_code_a)");
  const std::int64_t classes = options.classes ? options.classes : 2;
  return planned(nnunet_configuration(value, file.string(), options.configuration, classes),
                 options,
                 file.string());
}

}  // namespace nas
