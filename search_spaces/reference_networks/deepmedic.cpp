// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {
namespace {

constexpr std::int64_t kFactor = 3;  // of the reduced path
constexpr std::int64_t kReach = 8;   // voxels that eight 3x3x3 convolutions take off at each side

int norm_act(Layers& net, const std::string& name, int x) {
  x = net.apply("batch_norm", name + ".norm", {x});
  return net.apply("prelu", name + ".act", {x}, {{"per_channel", true}});
}

/// deepmedic's residual connection between layers of different width and size: the centre of
/// `earlier` is added to the first channels of `x`.
int add_earlier(Layers& net, const std::string& name, int x, int earlier) {
  earlier = net.apply("crop", name + ".crop", {earlier, x});
  const std::int64_t shared = std::min(net.channels(x), net.channels(earlier));
  if (shared < net.channels(earlier))
    earlier = net.apply("slice", name + ".part", {earlier}, {{"end", shared}});
  if (shared == net.channels(x)) return net.apply("add", name + ".add", {x, earlier});
  const std::int64_t all = net.channels(x);
  const int first = net.apply("slice", name + ".first", {x}, {{"end", shared}});
  const int rest = net.apply("slice", name + ".rest", {x}, {{"begin", shared}, {"end", all}});
  const int sum = net.apply("add", name + ".add", {first, earlier});
  return net.apply("concat", name + ".concat", {sum, rest});
}

/// Eight convolutions without padding; layers 4, 6 and 8 get the input of the layer before them.
int pathway(Layers& net, const std::string& name, int x) {
  constexpr std::array<std::int64_t, 8> kWidths{30, 30, 40, 40, 40, 40, 50, 50};
  int before = x;  // input of the layer before the current one
  for (std::size_t i = 0; i < kWidths.size(); ++i) {
    const std::string layer = name + "." + std::to_string(i);
    const int in = x;
    if (i > 0) x = norm_act(net, layer, x);
    x = net.valid_conv(layer + ".conv", x, kWidths[i], cube(3));
    if (i == 3 || i == 5 || i == 7) x = add_earlier(net, layer + ".residual", x, before);
    before = in;
  }
  return x;
}

}  // namespace

Graph make_deepmedic(const NetworkIo& io) {
  Layers net("deepmedic", io.in_channels);
  // The reduced path loses kReach of its own voxels at each side, kReach * kFactor of the image;
  // the normal path starts that much further inside.
  const std::int64_t margin = kReach * (kFactor - 1);
  const int centre =
      net.apply("crop", "normal.crop", {net.image()}, {{"begin", margin}, {"end", margin}});
  const int normal = pathway(net, "normal", centre);
  int reduced = net.apply("avg_pool", "reduced.pool", {net.image()}, {{"kernel", kFactor}});
  reduced = pathway(net, "reduced", reduced);
  const auto factor = static_cast<double>(kFactor);
  reduced = net.resize("reduced.repeat", reduced, {factor, factor, factor}, "nearest");

  const int joined = net.apply("concat", "join", {normal, reduced});
  int x = norm_act(net, "dense.0", joined);
  x = net.conv("dense.0.conv", x, 250, cube(3));
  x = norm_act(net, "dense.1", x);
  x = net.apply("dropout", "dense.1.dropout", {x}, {{"p", 0.5}});
  x = net.conv("dense.1.conv", x, 250, cube(1));
  x = add_earlier(net, "dense.1.residual", x, joined);
  x = norm_act(net, "head", x);
  x = net.apply("dropout", "head.dropout", {x}, {{"p", 0.5}});
  return net.finish({net.conv("head.conv", x, io.classes, cube(1), cube(1), true)});
}

}  // namespace nas
