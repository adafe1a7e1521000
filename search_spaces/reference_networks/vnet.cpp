// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {
namespace {

constexpr std::int64_t kStem = 16;

/// The image repeated until it has as many channels as the stem.
int repeat_image(Layers& net, std::int64_t in_channels) {
  if (in_channels == kStem) return net.image();
  const std::vector<int> copies(static_cast<std::size_t>((kStem + in_channels - 1) / in_channels),
                                net.image());
  const int all = net.apply("concat", "stem.repeat", copies);
  if (net.channels(all) == kStem) return all;
  return net.apply("slice", "stem.cut", {all}, {{"end", kStem}});
}

/// `count` convolutions of 5x5x5 at constant width, added to their input.
int residual_stage(Layers& net, const std::string& name, int x, int count) {
  int y = x;
  for (int i = 0; i < count; ++i) {
    y = net.conv_norm_act(
        name + "." + std::to_string(i), y, net.channels(x), cube(5), "batch_norm", "elu");
  }
  y = net.apply("add", name + ".add", {y, x});
  return net.apply("elu", name + ".act", {y});
}

}  // namespace

Graph make_vnet(const NetworkIo& io) {
  constexpr std::array<int, 4> kDown{1, 2, 3, 2};  // convolutions a stage, from 1/2 to 1/16
  constexpr std::array<int, 4> kUp{1, 1, 2, 2};    // from full size to 1/8
  Layers net("v_net", io.in_channels);
  int x = net.conv("stem.conv", net.image(), kStem, cube(5));
  x = net.apply("batch_norm", "stem.norm", {x});
  x = net.apply("add", "stem.add", {x, repeat_image(net, io.in_channels)});
  x = net.apply("elu", "stem.act", {x});
  std::vector<int> skips{x};
  for (std::size_t i = 0; i < kDown.size(); ++i) {
    const std::string name = "down." + std::to_string(i);
    x = net.conv(name + ".reduce.conv", x, 2 * net.channels(x), cube(2), cube(2));
    x = net.apply("batch_norm", name + ".reduce.norm", {x});
    x = net.apply("elu", name + ".reduce.act", {x});
    x = residual_stage(net, name, x, kDown[i]);
    skips.push_back(x);
  }
  for (std::size_t level = kUp.size(); level-- > 0;) {
    const std::string name = "up." + std::to_string(level);
    x = net.deconv(name + ".enlarge.conv", x, net.channels(skips[level]), cube(2), true);
    x = net.apply("batch_norm", name + ".enlarge.norm", {x});
    x = net.apply("elu", name + ".enlarge.act", {x});
    x = net.apply("concat", name + ".concat", {x, skips[level]});
    x = residual_stage(net, name, x, kUp[level]);
  }
  x = net.conv_norm_act("head.0", x, io.classes, cube(5), "batch_norm", "elu");
  return net.finish({net.conv("head.1", x, io.classes, cube(1), cube(1), true)});
}

}  // namespace nas
