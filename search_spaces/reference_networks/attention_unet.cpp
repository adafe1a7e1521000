// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {
namespace {

/// Additive attention: the skip, weighted by sigmoid(psi(relu(W_x skip + W_g gate))) per voxel.
int attention_gate(Layers& net, const std::string& name, int skip, int gate) {
  const std::int64_t inside = net.channels(skip) / 2;
  const auto project = [&](const std::string& part, int x, std::int64_t out) {
    x = net.conv(name + part + ".conv", x, out, cube(1), cube(1), true);
    return net.apply("batch_norm", name + part + ".norm", {x});
  };
  int a = net.apply(
      "add", name + ".add", {project(".gate", gate, inside), project(".skip", skip, inside)});
  a = net.apply("relu", name + ".act", {a});
  a = net.apply("sigmoid", name + ".weight", {project(".psi", a, 1)});
  return net.apply("multiply", name + ".multiply", {skip, a});
}

}  // namespace

Graph make_attention_unet(const NetworkIo& io) {
  constexpr std::array<std::int64_t, 5> kWidths{64, 128, 256, 512, 1024};
  Layers net("attention_unet", io.in_channels);
  const auto block = [&](const std::string& name, int x, std::int64_t out) {
    return net.conv_norm_act(name, x, out, cube(3), "batch_norm", "relu", true);
  };
  int x = net.image();
  std::array<int, 5> skips{};
  for (std::size_t level = 0; level < kWidths.size(); ++level) {
    const std::string name = "encoder." + std::to_string(level);
    if (level > 0) x = net.apply("max_pool", name + ".pool", {x}, {{"kernel", 2}});
    x = block(name + ".0", x, kWidths[level]);
    skips[level] = x = block(name + ".1", x, kWidths[level]);
  }
  for (std::size_t level = kWidths.size() - 1; level-- > 0;) {
    const std::string name = "decoder." + std::to_string(level);
    x = net.resize(name + ".resize", x, {2, 2, 2}, "nearest");
    x = block(name + ".up", x, kWidths[level]);
    const int skip = attention_gate(net, name + ".gate", skips[level], x);
    x = net.apply("concat", name + ".concat", {skip, x});
    x = block(name + ".0", x, kWidths[level]);
    x = block(name + ".1", x, kWidths[level]);
  }
  return net.finish({net.conv("head", x, io.classes, cube(1), cube(1), true)});
}

}  // namespace nas
