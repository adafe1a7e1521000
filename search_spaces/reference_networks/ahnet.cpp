// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "nas/core/error.h"
#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {
namespace {

constexpr std::int64_t kGrowth = 20;
constexpr std::int64_t kDenseWidth = 4 * kGrowth;
constexpr Extent3 kInPlane{1, 2, 2};  // strides: D is the axis across planes
constexpr Extent3 kThroughPlane{2, 1, 1};

int norm_relu(Layers& net, const std::string& name, int x) {
  return net.apply("relu", name + ".act", {net.apply("batch_norm", name + ".norm", {x})});
}

/// ResNet's bottleneck with an in-plane 3x3 convolution:
///   x -- 1x1x1 -- 1x3x3 (stride s in-plane) -- 1x1x1 -- pool s through-plane -- + -- relu
///    \- 1x1x1 (stride s in-plane) -- pool s through-plane -- norm -------------/   where the shape
///    changes
int bottleneck(
    Layers& net, const std::string& name, int x, std::int64_t planes, std::int64_t stride) {
  const Extent3 in_plane{1, stride, stride};
  int y = net.conv(name + ".conv1", x, planes, cube(1));
  y = norm_relu(net, name + ".1", y);
  y = net.conv(name + ".conv2", y, planes, {1, 3, 3}, in_plane);
  y = norm_relu(net, name + ".2", y);
  y = net.conv(name + ".conv3", y, 4 * planes, cube(1));
  y = net.apply("batch_norm", name + ".3.norm", {y});
  int skip = x;
  if (stride != 1 || net.channels(x) != 4 * planes) {
    skip = net.conv(name + ".skip.conv", x, 4 * planes, cube(1), in_plane);
    if (stride != 1) {
      const Attributes pool{{"kernel", std::vector<std::int64_t>{stride, 1, 1}}};
      skip = net.apply("max_pool", name + ".skip.pool", {skip}, pool);
      y = net.apply("max_pool", name + ".pool", {y}, pool);
    }
    skip = net.apply("batch_norm", name + ".skip.norm", {skip});
  }
  y = net.apply("add", name + ".add", {y, skip});
  return net.apply("relu", name + ".act", {y});
}

/// Three layers that each append `kGrowth` channels, found in-plane and across planes.
int dense_block(Layers& net, const std::string& name, int x) {
  for (int i = 0; i < 3; ++i) {
    const std::string layer = name + "." + std::to_string(i);
    int y = norm_relu(net, layer + ".0", x);
    y = net.conv(layer + ".narrow", y, kDenseWidth, cube(1));
    y = norm_relu(net, layer + ".1", y);
    const int plane = net.conv(layer + ".in_plane", y, kGrowth, {1, 3, 3});
    y = norm_relu(net, layer + ".2", plane);
    y = net.conv(layer + ".through_plane", y, kGrowth, {3, 1, 1});
    y = net.apply("add", layer + ".add", {plane, y});
    y = norm_relu(net, layer + ".3", y);
    y = net.conv(layer + ".widen", y, kGrowth, cube(1));
    x = net.apply("concat", layer + ".concat", {x, y});
  }
  return x;
}

int project(Layers& net, const std::string& name, int x, std::int64_t out) {
  return net.conv(name + ".conv", norm_relu(net, name, x), out, cube(1));
}

}  // namespace

Graph make_ahnet(const NetworkIo& io) {
  Layers net("ah_net", io.in_channels);
  int x = net.conv("stem.conv", net.image(), 64, {3, 7, 7}, kInPlane);
  x = net.apply(
      "max_pool",
      "stem.pool",
      {x},
      {{"kernel", std::vector<std::int64_t>(kThroughPlane.begin(), kThroughPlane.end())}});
  const int half = norm_relu(net, "stem", x);  // 1/2 of the patch
  const int quarter =
      net.apply("max_pool", "pool", {half}, {{"kernel", 3}, {"stride", 2}, {"padding", 1}});

  constexpr std::array<int, 4> kBlocks{3, 4, 6, 3};
  std::array<int, 4> stages{};
  x = quarter;
  for (std::size_t s = 0; s < kBlocks.size(); ++s) {
    for (int b = 0; b < kBlocks[s]; ++b) {
      x = bottleneck(net,
                     "encoder." + std::to_string(s) + "." + std::to_string(b),
                     x,
                     std::int64_t{64} << s,
                     s > 0 && b == 0 ? 2 : 1);
    }
    stages[s] = x;
  }

  // Each step: to the skip's width, twice the size, sum with the skip, dense block.
  for (std::size_t s = 3; s-- > 0;) {
    const std::string name = "decoder." + std::to_string(s);
    x = project(net, name + ".up", x, net.channels(stages[s]));
    x = net.resize(name + ".up.resize", x, {2, 2, 2});
    x = net.apply("add", name + ".add", {x, stages[s]});
    x = dense_block(net, name + ".dense", x);
  }
  x = project(net, "decoder.at_quarter", x, 64);
  x = net.apply("add", "decoder.at_quarter.add", {x, quarter});
  x = dense_block(net, "decoder.at_quarter.dense", x);
  x = project(net, "decoder.at_half.up", x, 64);
  x = net.resize("decoder.at_half.up.resize", x, {2, 2, 2});
  x = net.apply("add", "decoder.at_half.add", {x, half});
  x = dense_block(net, "decoder.at_half.dense", x);

  // Pyramid volumetric pooling: one channel per window that divides the map.
  std::vector<int> pyramid;
  for (const std::int64_t window : {8, 16, 32, 64}) {
    if (io.patch[1] % (2 * window) != 0 || io.patch[2] % (2 * window) != 0) continue;
    const std::string name = "pyramid." + std::to_string(window);
    int y = net.apply("max_pool",
                      name + ".pool",
                      {x},
                      {{"kernel", std::vector<std::int64_t>{1, window, window}}});
    y = net.conv(name + ".conv", y, 1, cube(1), cube(1), true);
    const auto factor = static_cast<double>(window);
    pyramid.push_back(net.resize(name + ".resize", y, {1, factor, factor}));
  }
  pyramid.push_back(x);
  x = net.apply("concat", "pyramid.concat", pyramid);
  x = norm_relu(net, "head", x);
  x = net.conv("head.conv", x, io.classes, {1, 3, 3});
  return net.finish({net.resize("head.resize", x, {2, 2, 2})});
}

}  // namespace nas
