// SPDX-License-Identifier: Apache-2.0
#include "nas/core/error.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {

Graph make_basic_unet(const NetworkIo& io, const std::vector<std::int64_t>& features) {
  constexpr std::size_t kLevels = 5;
  NAS_CHECK(features.size() == kLevels + 1,
            "BasicUNet: expected ",
            kLevels + 1,
            " numbers of features, got ",
            features.size());
  Layers net("basic_unet", io.in_channels);
  const auto pair = [&](const std::string& name, int x, std::int64_t out) {
    for (const char* part : {".conv_0", ".conv_1"}) {
      x = net.conv(name + part + ".conv", x, out, cube(3), cube(1), true);
      x = net.apply("instance_norm", name + part + ".norm", {x});
      x = net.apply("leaky_relu", name + part + ".act", {x}, {{"slope", 0.1}});
    }
    return x;
  };
  int x = net.image();
  std::vector<int> skips;
  for (std::size_t level = 0; level < kLevels; ++level) {
    const std::string name = "down." + std::to_string(level);
    if (level > 0) x = net.apply("max_pool", name + ".pool", {x}, {{"kernel", 2}});
    skips.push_back(x = pair(name, x, features[level]));
  }
  for (std::size_t level = kLevels - 1; level-- > 0;) {
    const std::string name = "up." + std::to_string(level);
    const std::int64_t width = level > 0 ? net.channels(x) / 2 : net.channels(x);
    x = net.deconv(name + ".deconv", x, width, cube(2), true);
    x = net.apply("concat", name + ".concat", {skips[level], x});
    x = pair(name, x, level > 0 ? features[level] : features[kLevels]);
  }
  return net.finish({net.conv("head", x, io.classes, cube(1), cube(1), true)});
}

Graph make_nnunet(const NetworkIo& io, bool residual) {
  UnetArchitecture a;
  a.residual = residual;
  a.in_channels = io.in_channels;
  a.classes = io.classes;
  a.features = {32, 64, 128, 256, 320, 320};
  a.strides.assign(a.features.size(), cube(2));
  a.strides[0] = cube(1);
  a.kernels.assign(a.features.size(), cube(3));
  a.blocks = residual ? std::vector<std::int64_t>{1, 3, 4, 6, 6, 6}
                      : std::vector<std::int64_t>(a.features.size(), 2);
  a.decoder_convs.assign(a.features.size() - 1, residual ? 1 : 2);
  return make_unet(a);
}

}  // namespace nas
