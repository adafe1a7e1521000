// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/network/drawing.h"
#include "nas/network/summary.h"
#include "search_spaces/network_file.h"

namespace nas {
namespace {

struct Options {
  std::string name, input, svg, save;
  NetworkFileOptions network;
  std::int64_t batch = 0;
  bool json = false;
};

/// [C, D, H, W] or [D, H, W] (channels 0) of "1x40x56x40" or "40x56x40".
TensorShape parse_input(const std::string& text) {
  std::vector<std::int64_t> sizes;
  std::size_t at = 0;
  while (at <= text.size() && sizes.size() < 5) {
    const std::size_t end = std::min(text.find('x', at), text.size());
    const std::string part = text.substr(at, end - at);
    const bool digits = !part.empty() && part.size() <= 7 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    NAS_CHECK_KIND(
        Usage, digits, "--input: expected CxDxHxW or DxHxW such as 1x40x56x40, got '", text, "'");
    sizes.push_back(std::stoll(part));
    NAS_CHECK_KIND(
        Usage, sizes.back() > 0, "--input: expected sizes of at least 1, got '", text, "'");
    at = end + 1;
  }
  NAS_CHECK_KIND(Usage,
                 sizes.size() == 3 || sizes.size() == 4,
                 "--input: expected CxDxHxW or DxHxW, got '",
                 text,
                 "'");
  const std::size_t first = sizes.size() - 3;
  return {first ? sizes[0] : 0, {sizes[first], sizes[first + 1], sizes[first + 2]}};
}

int run(const Options& o) {
  NetworkFileOptions options = o.network;
  if (!o.input.empty()) {
    const TensorShape input = parse_input(o.input);
    options.channels = input.channels;
    options.patch = input.space;
  }
  const NetworkFile network = load_network(o.name, options);
  Extent3 space = network.patch;
  if (!o.input.empty()) {
    space = options.patch;
  } else if (space == Extent3{0, 0, 0}) {
    space = {64, 64, 64};
    log_info(
        o.name,
        ": the file gives no patch size; shapes are for 64x64x64 voxels (--input sets others)");
  }
  const Summary summary = summarize(network.graph,
                                    space,
                                    o.batch         ? o.batch
                                    : network.batch ? network.batch
                                                    : 2);
  std::cout << (o.json ? to_json(summary).dump(2) + "\n" : to_text(summary));
  if (!o.save.empty()) {
    write_graph(o.save, network.graph);
    log_info("network: ", o.save);
  }
  if (!o.svg.empty()) {
    write_drawing(network.graph, space, o.svg);
    log_info("drawing: ", o.svg);
  }
  return 0;
}

}  // namespace

Command inspect_command() {
  return {
      .name = "inspect", .setup = [](CLI::App& app) -> std::function<int()> {
        auto o = std::make_shared<Options>();
        app.add_option(
               "NETWORK",
               o->name,
               "Name of a network (v-net, c2fnas-panc, vnas:mix, ...) or search space, graph "
               "JSON, model folder, plan (ours or nnU-Net's plans.json), or DiNTS codes as "
               "JSON")
            ->required();
        app.add_option(
            "--input",
            o->input,
            "Size of the input, CxDxHxW or DxHxW voxels (default: the patch of the plan or model)");
        app.add_option("--batch",
                       o->batch,
                       "Samples of a step, for the memory estimate (default: as planned, else 2)")
            ->check(CLI::Range(1, 1 << 20));
        app.add_option(
               "--configuration", o->network.configuration, "Configuration of the plan to look at")
            ->capture_default_str();
        app.add_option("--space", o->network.space, "Search space around the plan")
            ->capture_default_str();
        app.add_option("--genotype",
                       o->network.genotype,
                       "Another point of the space around a plan, e.g. \"features=16 stages=3\"");
        app.add_option("--classes",
                       o->network.classes,
                       "Number of classes with the background, for a network by name or for "
                       "nnU-Net's plans.json, "
                       "which does not hold it")
            ->check(CLI::Range(1, 1024));
        app.add_flag("--json", o->json, "Print the table as JSON on stdout");
        app.add_option("--save",
                       o->save,
                       "Also write the network to this file as graph JSON (for train --network)");
        app.add_option(
            "--svg",
            o->svg,
            "Also draw the network to this file (.svg, .png or .pdf; needs graphviz's dot)");
        return [o] { return run(*o); };
      }};
}

}  // namespace nas
