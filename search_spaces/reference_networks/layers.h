// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/network/graph.h"

namespace nas {

/// A graph under construction, in the words that papers use. Every function appends nodes and
/// returns the last one; `name` is the node's name or the prefix of its parts.
class Layers {
 public:
  Layers(std::string network, std::int64_t in_channels);

  int image() const { return image_; }
  std::int64_t channels(int node) const { return channels_[static_cast<std::size_t>(node)]; }

  /// Convolution that keeps the size (divided by the stride).
  int conv(const std::string& name,
           int x,
           std::int64_t out,
           const Extent3& kernel,
           const Extent3& stride = {1, 1, 1},
           bool bias = false);
  /// Convolution without padding.
  int valid_conv(const std::string& name, int x, std::int64_t out, const Extent3& kernel);
  /// Transposed convolution whose kernel is its stride: doubles the size with stride 2.
  int deconv(
      const std::string& name, int x, std::int64_t out, const Extent3& stride, bool bias = false);
  /// Trilinear by default; `factor` per axis.
  int resize(const std::string& name, int x, const Vec3& factor, const char* mode = "trilinear");
  /// Any operation of the table without attributes of its own: "relu", "batch_norm", "add", ...
  int apply(const char* op,
            const std::string& name,
            std::vector<int> inputs,
            Attributes attributes = {});
  /// name.conv, name.norm, name.act: the block of most networks.
  int conv_norm_act(const std::string& name,
                    int x,
                    std::int64_t out,
                    const Extent3& kernel,
                    const char* norm,
                    const char* activation,
                    bool bias = false);

  /// Adds the outputs, finest first, and hands the graph over.
  Graph finish(const std::vector<int>& outputs);

 private:
  Graph graph_;
  std::vector<std::int64_t> channels_;  // per node
  int image_ = 0;
};

inline Extent3 cube(std::int64_t size) { return {size, size, size}; }

}  // namespace nas
