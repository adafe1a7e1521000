// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/reference_networks/layers.h"

#include <utility>

#include "nas/network/operations.h"

namespace nas {
namespace {

std::vector<std::int64_t> list(const Extent3& e) { return {e[0], e[1], e[2]}; }

}  // namespace

Layers::Layers(std::string network, std::int64_t in_channels) {
  graph_.name = std::move(network);
  image_ = apply("input", "image", {}, {{"channels", in_channels}});
}

int Layers::apply(const char* op,
                  const std::string& name,
                  std::vector<int> inputs,
                  Attributes attributes) {
  const int node = graph_.add(op, name, std::move(inputs), std::move(attributes));
  const Node& added = graph_.nodes.back();
  std::vector<std::int64_t> in;
  for (const int input : added.inputs) in.push_back(channels(input));
  channels_.push_back(result_channels(added, in));
  return node;
}

int Layers::conv(const std::string& name,
                 int x,
                 std::int64_t out,
                 const Extent3& kernel,
                 const Extent3& stride,
                 bool bias) {
  return apply(
      "conv",
      name,
      {x},
      {{"out_channels", out}, {"kernel", list(kernel)}, {"stride", list(stride)}, {"bias", bias}});
}

int Layers::valid_conv(const std::string& name, int x, std::int64_t out, const Extent3& kernel) {
  return apply("conv",
               name,
               {x},
               {{"out_channels", out}, {"kernel", list(kernel)}, {"padding", 0}, {"bias", false}});
}

int Layers::deconv(
    const std::string& name, int x, std::int64_t out, const Extent3& stride, bool bias) {
  return apply(
      "conv_transpose",
      name,
      {x},
      {{"out_channels", out}, {"kernel", list(stride)}, {"stride", list(stride)}, {"bias", bias}});
}

int Layers::resize(const std::string& name, int x, const Vec3& factor, const char* mode) {
  return apply("resize",
               name,
               {x},
               {{"scale", std::vector<double>{factor[0], factor[1], factor[2]}},
                {"mode", std::string(mode)}});
}

int Layers::conv_norm_act(const std::string& name,
                          int x,
                          std::int64_t out,
                          const Extent3& kernel,
                          const char* norm,
                          const char* activation,
                          bool bias) {
  x = conv(name + ".conv", x, out, kernel, {1, 1, 1}, bias);
  x = apply(norm, name + ".norm", {x});
  return apply(activation, name + ".act", {x});
}

Graph Layers::finish(const std::vector<int>& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    apply("output", "seg" + std::to_string(i), {outputs[i]});
  }
  return std::move(graph_);
}

}  // namespace nas
