// SPDX-License-Identifier: Apache-2.0
// VoxResNet and ResDSN: residual networks with deep supervision of the 3DV/NeuroImage generation.
#include <algorithm>
#include <array>

#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {

Graph make_voxresnet(const NetworkIo& io) {
  constexpr int kScales = 4;
  Layers net("voxresnet", io.in_channels);
  const auto norm_act = [&](const std::string& name, int x) {
    return net.apply("relu", name + ".act", {net.apply("batch_norm", name + ".norm", {x})});
  };
  int x = net.conv("stem.0", net.image(), 32, cube(3), cube(1), true);
  x = norm_act("stem.1", x);
  x = net.conv("stem.1.conv", x, 32, cube(3), cube(1), true);
  std::vector<int> scores;  // at full resolution, finest first
  for (int scale = 0; scale < kScales; ++scale) {
    const std::string name = "scale." + std::to_string(scale);
    if (scale > 0) {
      x = norm_act(name + ".reduce", x);
      x = net.conv(name + ".reduce.conv", x, 64, cube(3), cube(2), true);
      for (int module = 0; module < 2; ++module) {
        const std::string part = name + "." + std::to_string(module);
        int y = x;
        for (const char* half : {".0", ".1"}) {
          y = norm_act(part + half, y);
          y = net.conv(part + half + ".conv", y, 64, cube(3), cube(1), true);
        }
        x = net.apply("add", part + ".add", {x, y});
      }
    }
    const int y = norm_act(name + ".classifier", x);
    scores.push_back(
        scale == 0
            ? net.conv(name + ".classifier.conv", y, io.classes, cube(1), cube(1), true)
            : net.deconv(
                  name + ".classifier.conv", y, io.classes, cube(std::int64_t{1} << scale), true));
  }
  std::vector<int> outputs{net.apply("add", "sum", scores)};
  outputs.insert(outputs.end(), scores.begin(), scores.end());
  return net.finish(outputs);
}

Graph make_resdsn(const NetworkIo& io) {
  constexpr std::array<std::int64_t, 4> kWidths{32, 64, 128, 256};
  Layers net("resdsn", io.in_channels);
  const auto pair = [&](const std::string& name, int x, std::int64_t width) {
    x = net.conv_norm_act(name + ".0", x, width, cube(3), "batch_norm", "relu");
    return net.conv_norm_act(name + ".1", x, width, cube(3), "batch_norm", "relu");
  };
  int x = net.image();
  std::array<int, 4> skips{};
  for (std::size_t level = 0; level < kWidths.size(); ++level) {
    const std::string name = "encoder." + std::to_string(level);
    if (level > 0) x = net.apply("max_pool", name + ".pool", {x}, {{"kernel", 2}});
    skips[level] = x = pair(name, x, kWidths[level]);
  }
  std::vector<int> outputs;  // coarsest first, as the decoder runs
  for (std::size_t level = kWidths.size() - 1; level-- > 0;) {
    const std::string name = "decoder." + std::to_string(level);
    x = net.deconv(name + ".up", x, kWidths[level], cube(2));
    x = net.apply("add", name + ".add", {x, skips[level]});
    x = pair(name, x, kWidths[level]);
    int score = net.conv(name + ".classifier", x, io.classes, cube(1), cube(1), true);
    if (level > 0) {
      const auto factor = static_cast<double>(std::int64_t{1} << level);
      score = net.resize(name + ".classifier.resize", score, {factor, factor, factor});
    }
    outputs.push_back(score);
  }
  std::ranges::reverse(outputs);
  return net.finish(outputs);
}

}  // namespace nas
