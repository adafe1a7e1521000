// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/unet.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "nas/core/error.h"
#include "nas/network/operations.h"
#include "search_spaces/alternatives.h"

namespace nas {
namespace {

std::int64_t multiple_of_4(double value) {
  return std::max<std::int64_t>(4, 4 * static_cast<std::int64_t>(std::llround(value / 4)));
}

/// The graph under construction.
class Builder {
 public:
  Builder(Graph& graph, const BlockWriter& write) : graph_(graph), write_(write) {}

  int block(const std::string& name,
            int input,
            std::int64_t in_channels,
            std::int64_t channels,
            const Extent3& kernel,
            const Extent3& stride,
            bool activation = true,
            bool bias = true) {
    return write_(graph_, {name, input, in_channels, channels, kernel, stride, activation, bias});
  }

  ///   x -- conv1 norm act -- conv2 norm -- + -- act
  ///    \- avg_pool(stride) - 1x1x1 norm -/        each part of the skip only where the shape
  ///    changes
  int residual_block(const std::string& name,
                     int input,
                     std::int64_t in_channels,
                     std::int64_t channels,
                     const Extent3& kernel,
                     const Extent3& stride) {
    int main = block(name + ".conv1", input, in_channels, channels, kernel, stride);
    main = block(name + ".conv2", main, channels, channels, kernel, {1, 1, 1}, false);
    int skip = input;
    int place = 0;  // nnU-Net numbers the parts of the skip that exist
    if (stride != Extent3{1, 1, 1}) {
      skip = graph_.add("avg_pool",
                        name + ".skip." + std::to_string(place++),
                        {skip},
                        {{"kernel", axes(stride)}});
    }
    if (in_channels != channels) {
      skip = block(name + ".skip." + std::to_string(place),
                   skip,
                   in_channels,
                   channels,
                   {1, 1, 1},
                   {1, 1, 1},
                   false,
                   false);
    }
    const int sum = graph_.add("add", name + ".add", {main, skip});
    return graph_.add("leaky_relu", name + ".nonlin2", {sum});
  }

 private:
  Graph& graph_;
  const BlockWriter& write_;
};

void check(const UnetArchitecture& a) {
  const std::size_t stages = a.features.size();
  NAS_CHECK(stages >= 2 && stages <= 16, "U-Net: expected 2 to 16 stages, got ", stages);
  NAS_CHECK(a.strides.size() == stages && a.kernels.size() == stages && a.blocks.size() == stages &&
                a.decoder_convs.size() == stages - 1,
            "U-Net of ",
            stages,
            " stages: expected as many strides, kernels and blocks, and ",
            stages - 1,
            " decoder stages, got ",
            a.strides.size(),
            ", ",
            a.kernels.size(),
            ", ",
            a.blocks.size(),
            " and ",
            a.decoder_convs.size());
  for (const std::vector<std::int64_t>* counts : {&a.blocks, &a.decoder_convs}) {
    for (const std::int64_t count : *counts) {
      NAS_CHECK(count >= 1 && count <= 64, "U-Net: expected 1 to 64 blocks a stage, got ", count);
    }
  }
  NAS_CHECK(a.strides[0] == (Extent3{1, 1, 1}),
            "U-Net: the first stride must be 1x1x1, got ",
            to_text(a.strides[0]));
}

}  // namespace

int add_norm_act(Graph& graph, const std::string& prefix, int input, bool activation) {
  const int norm = graph.add("instance_norm", prefix + "norm", {input});
  return activation ? graph.add("leaky_relu", prefix + "nonlin", {norm}) : norm;
}

int add_unet_block(Graph& graph, const UnetBlock& block) {
  const int conv = graph.add("conv",
                             block.name + ".conv",
                             {block.input},
                             {{"out_channels", block.channels},
                              {"kernel", axes(block.kernel)},
                              {"stride", axes(block.stride)},
                              {"bias", block.bias}});
  return add_norm_act(graph, block.name + ".", conv, block.activation);
}

void set_first_features(UnetArchitecture& a, std::int64_t first) {
  const std::int64_t planned = a.features.at(0);
  if (first == planned) return;
  const double factor = static_cast<double>(first) / static_cast<double>(planned);
  for (std::int64_t& features : a.features)
    features = multiple_of_4(factor * static_cast<double>(features));
}

std::vector<std::int64_t> feature_choices(std::int64_t planned,
                                          const std::vector<double>& factors) {
  std::vector<std::int64_t> values{planned};
  for (const double factor : factors) {
    const std::int64_t features = multiple_of_4(factor * static_cast<double>(planned));
    if (std::ranges::find(values, features) == values.end()) values.push_back(features);
  }
  return values;
}

Graph make_unet(const UnetArchitecture& a, const BlockWriter& write) {
  check(a);
  Graph graph;
  graph.name = a.residual ? "residual_unet" : "plain_unet";
  Builder build(graph, write);
  const std::size_t stages = a.features.size();

  int x = graph.add("input", "image", {}, {{"channels", a.in_channels}});
  if (a.residual)
    x = build.block(
        "encoder.stem.convs.0", x, a.in_channels, a.features[0], a.kernels[0], {1, 1, 1});
  std::vector<int> skips;
  for (std::size_t s = 0; s < stages; ++s) {
    const std::string stage = "encoder.stages." + std::to_string(s);
    for (std::int64_t i = 0; i < a.blocks[s]; ++i) {
      const Extent3 stride = i == 0 ? a.strides[s] : Extent3{1, 1, 1};
      const bool first = s == 0 && i == 0 && !a.residual;
      const std::int64_t in = first   ? a.in_channels
                              : i > 0 ? a.features[s]
                                      : a.features[s > 0 ? s - 1 : 0];
      if (a.residual) {
        x = build.residual_block(
            stage + ".blocks." + std::to_string(i), x, in, a.features[s], a.kernels[s], stride);
      } else {
        x = build.block(
            stage + ".0.convs." + std::to_string(i), x, in, a.features[s], a.kernels[s], stride);
      }
    }
    skips.push_back(x);
  }

  std::vector<int> heads;  // coarsest first, as the decoder runs
  for (std::size_t d = 0; d + 1 < stages; ++d) {
    const std::size_t level =
        stages - 2 - d;  // the encoder stage whose resolution this decoder stage has
    const std::string number = std::to_string(d);
    const Extent3 stride = a.strides[level + 1];
    x = graph.add(
        "conv_transpose",
        "decoder.transpconvs." + number,
        {x},
        {{"out_channels", a.features[level]}, {"kernel", axes(stride)}, {"stride", axes(stride)}});
    x = graph.add("concat", "decoder.stages." + number + ".concat", {x, skips[level]});
    for (std::int64_t i = 0; i < a.decoder_convs[d]; ++i) {
      x = build.block("decoder.stages." + number + ".convs." + std::to_string(i),
                      x,
                      i == 0 ? 2 * a.features[level] : a.features[level],
                      a.features[level],
                      a.kernels[level],
                      {1, 1, 1});
    }
    if (a.deep_supervision || level == 0) {
      heads.push_back(graph.add("conv",
                                "decoder.seg_layers." + number,
                                {x},
                                {{"out_channels", a.classes}, {"kernel", 1}}));
    }
  }
  for (std::size_t i = 0; i < heads.size(); ++i) {
    graph.add("output", "seg" + std::to_string(i), {heads[heads.size() - 1 - i]});
  }
  return graph;
}

UnetArchitecture unet_architecture(const Graph& graph) {
  const std::string refusal =
      "network " + graph.name + ": not a planned U-Net, plain or with a residual encoder: ";
  const auto node = [&](const std::string& name) -> const Node* {
    const int index = graph.find(name);
    return index < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(index)];
  };
  const auto conv = [&](const std::string& name) {
    const Node* found = node(name);
    NAS_CHECK(found == nullptr || found->op == "conv",
              refusal,
              "node ",
              name,
              " is no convolution but ",
              found == nullptr ? "" : found->op);
    return found;
  };

  UnetArchitecture a;
  a.residual = node("encoder.stem.convs.0.conv") != nullptr;
  const auto encoder = [&](std::size_t stage, std::int64_t block) {
    const std::string name = "encoder.stages." + std::to_string(stage);
    return conv(a.residual ? name + ".blocks." + std::to_string(block) + ".conv1.conv"
                           : name + ".0.convs." + std::to_string(block) + ".conv");
  };
  while (const Node* first = encoder(a.features.size(), 0)) {
    const std::size_t stage = a.features.size();
    a.features.push_back(attribute_int(*first, "out_channels"));
    a.kernels.push_back(attribute_extent(*first, "kernel"));
    a.strides.push_back(attribute_extent(*first, "stride"));
    a.blocks.push_back(1);
    while (encoder(stage, a.blocks.back()) != nullptr) ++a.blocks.back();
  }
  NAS_CHECK(a.features.size() >= 2, refusal, "it has no encoder.stages of nnU-Net's names");
  const std::size_t levels = a.features.size() - 1;
  for (std::size_t d = 0; d < levels; ++d) {
    std::int64_t count = 0;
    while (conv("decoder.stages." + std::to_string(d) + ".convs." + std::to_string(count) +
                ".conv") != nullptr) {
      ++count;
    }
    NAS_CHECK(count > 0, refusal, "decoder.stages.", d, " is missing");
    a.decoder_convs.push_back(count);
  }
  const Node* head = conv("decoder.seg_layers." + std::to_string(levels - 1));
  NAS_CHECK(head != nullptr, refusal, "decoder.seg_layers.", levels - 1, " is missing");
  a.classes = attribute_int(*head, "out_channels");
  const std::vector<int> inputs = graph.input_nodes();
  NAS_CHECK(inputs.size() == 1, refusal, "expected one input, found ", inputs.size());
  a.in_channels = attribute_int(graph.nodes[static_cast<std::size_t>(inputs.front())], "channels");
  a.deep_supervision = graph.output_nodes().size() > 1;

  // What was read is a guess until the whole graph agrees.
  const Graph expected = make_unet(a);
  for (std::size_t i = 0; i < std::max(expected.nodes.size(), graph.nodes.size()); ++i) {
    NAS_CHECK(i < graph.nodes.size(), refusal, "node ", expected.nodes[i].name, " is missing");
    NAS_CHECK(i < expected.nodes.size() && graph.nodes[i] == expected.nodes[i],
              refusal,
              "node ",
              graph.nodes[i].name,
              " (",
              graph.nodes[i].op,
              ") is different or not part of one");
  }
  return a;
}

}  // namespace nas
