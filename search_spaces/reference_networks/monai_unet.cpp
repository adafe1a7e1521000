// SPDX-License-Identifier: Apache-2.0
#include "nas/core/error.h"
#include "search_spaces/reference_networks/layers.h"
#include "search_spaces/reference_networks/networks.h"

namespace nas {
namespace {

class MonaiUnet {
 public:
  MonaiUnet(const NetworkIo& io, const MonaiUnetOptions& options)
      : io_(io), o_(options), net_("monai_unet", io.in_channels) {}

  Graph make() { return net_.finish({block("model", net_.image(), 0)}); }

 private:
  /// Level `i` and all below: down, what is below with its input beside it, up.
  int block(const std::string& name, int x, std::size_t i) {
    const bool top = i == 0;
    const std::int64_t stride = o_.strides[i];
    const int down = down_layer(name + ".0", x, o_.channels[i], stride);
    const std::string inner = name + ".1.submodule";
    const int below = i + 2 < o_.channels.size() ? block(inner, down, i + 1)
                                                 : down_layer(inner, down, o_.channels[i + 1], 1);
    const int both = net_.apply("concat", name + ".1.concat", {down, below});
    return up_layer(name + ".2", both, top ? io_.classes : o_.channels[i - 1], stride, top);
  }

  int down_layer(const std::string& name, int x, std::int64_t out, std::int64_t stride) {
    if (o_.num_res_units > 0) return residual(name, x, out, stride, o_.num_res_units, false);
    const int y = net_.conv(name + ".conv", x, out, cube(o_.kernel_size), cube(stride), o_.bias);
    return norm_drop_act(name, y);
  }

  int up_layer(const std::string& name, int x, std::int64_t out, std::int64_t stride, bool top) {
    const bool units = o_.num_res_units > 0;
    const std::string first = units ? name + ".0" : name;
    x = enlarged(first + ".conv", x, out, stride);
    if (units || !top) x = norm_drop_act(first, x);
    return units ? residual(name + ".1", x, out, 1, 1, top) : x;
  }

  /// Transposed convolution to exactly `stride` times the size: padding kernel / 2 and output
  /// padding, which are a crop of the whole result.
  int enlarged(const std::string& name, int x, std::int64_t out, std::int64_t stride) {
    const std::int64_t k = o_.up_kernel_size;
    x = net_.apply("conv_transpose",
                   name,
                   {x},
                   {{"out_channels", out}, {"kernel", k}, {"stride", stride}, {"bias", o_.bias}});
    const std::int64_t begin = (k - 1) / 2, end = k - stride - begin;
    if (begin == 0 && end == 0) return x;
    return net_.apply("crop", name + ".crop", {x}, {{"begin", begin}, {"end", end}});
  }

  int residual(const std::string& name,
               int x,
               std::int64_t out,
               std::int64_t stride,
               std::int64_t units,
               bool last_plain) {
    int way = x;
    for (std::int64_t u = 0; u < units; ++u) {
      const std::string unit = name + ".conv.unit" + std::to_string(u);
      way = net_.conv(
          unit + ".conv", way, out, cube(o_.kernel_size), cube(u == 0 ? stride : 1), o_.bias);
      if (!last_plain || u + 1 < units) way = norm_drop_act(unit, way);
    }
    int beside = x;
    if (stride != 1 || net_.channels(x) != out) {
      const std::int64_t kernel = stride == 1 ? 1 : o_.kernel_size;
      beside = net_.conv(name + ".residual", x, out, cube(kernel), cube(stride), o_.bias);
    }
    return net_.apply("add", name + ".add", {way, beside});
  }

  int norm_drop_act(const std::string& name, int x) {
    if (o_.norm == "instance_norm") {
      x = net_.apply("instance_norm", name + ".adn.N", {x}, {{"affine", o_.affine}});
    } else if (!o_.norm.empty()) {
      x = net_.apply(o_.norm.c_str(), name + ".adn.N", {x});
    }
    if (o_.dropout > 0) x = net_.apply("dropout", name + ".adn.D", {x}, {{"p", o_.dropout}});
    return net_.apply(o_.activation.c_str(), name + ".adn.A", {x});
  }

  const NetworkIo& io_;
  const MonaiUnetOptions& o_;
  Layers net_;
};

}  // namespace

Graph make_monai_unet(const NetworkIo& io, const MonaiUnetOptions& options) {
  const auto& o = options;
  NAS_CHECK(
      o.channels.size() >= 2, "channels: expected at least 2 numbers, found ", o.channels.size());
  NAS_CHECK(o.strides.size() + 1 == o.channels.size(),
            "strides: expected ",
            o.channels.size() - 1,
            " numbers, one fewer than channels, found ",
            o.strides.size());
  for (const std::int64_t stride : o.strides) {
    NAS_CHECK(stride >= 1 && stride <= (o.up_kernel_size + 1) / 2,
              "strides: expected numbers from 1 to ",
              (o.up_kernel_size + 1) / 2,
              ", half of up_kernel_size, found ",
              stride);
  }
  for (const std::int64_t kernel : {o.kernel_size, o.up_kernel_size}) {
    NAS_CHECK(kernel >= 1 && kernel <= 7 && kernel % 2 == 1,
              "kernel_size, up_kernel_size: expected 1, 3, 5 or 7, found ",
              kernel);
  }
  return MonaiUnet(io, options).make();
}

}  // namespace nas
