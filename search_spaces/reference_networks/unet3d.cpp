// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {

Graph make_unet3d(const NetworkIo& io, bool deconvolution) {
  constexpr std::array<std::int64_t, 4> kWidths{64, 128, 256, 512};
  Layers net(deconvolution ? "unet3d_deconv" : "unet3d", io.in_channels);
  const auto pair = [&](const std::string& name, int x, std::int64_t first, std::int64_t second) {
    x = net.conv_norm_act(name + ".0", x, first, cube(3), "batch_norm", "relu");
    return net.conv_norm_act(name + ".1", x, second, cube(3), "batch_norm", "relu");
  };
  int x = net.image();
  std::array<int, 4> skips{};
  for (std::size_t level = 0; level < kWidths.size(); ++level) {
    const std::string name = "encoder." + std::to_string(level);
    if (level > 0) x = net.apply("max_pool", name + ".pool", {x}, {{"kernel", 2}});
    skips[level] = x = pair(name, x, kWidths[level] / 2, kWidths[level]);
  }
  for (std::size_t level = kWidths.size() - 1; level-- > 0;) {
    const std::string name = "decoder." + std::to_string(level);
    x = deconvolution ? net.deconv(name + ".up", x, net.channels(x), cube(2))
                      : net.resize(name + ".up", x, {2, 2, 2}, "nearest");
    x = net.apply("concat", name + ".concat", {skips[level], x});
    x = pair(name, x, kWidths[level], kWidths[level]);
  }
  return net.finish({net.conv("head", x, io.classes, cube(1), cube(1), true)});
}

}  // namespace nas
