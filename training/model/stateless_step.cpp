// SPDX-License-Identifier: Apache-2.0
#include "training/model/stateless_step.h"

#include "nas/core/error.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

Extent3 space_of(const at::Tensor& x) { return {x.size(2), x.size(3), x.size(4)}; }

}  // namespace

StepFunction stateless_step(const Node& node) {
  const std::string& op = node.op;
  if (op == "relu") return [](const Values& in) { return at::relu(in[0]); };
  if (op == "leaky_relu") {
    const double slope = attribute_real(node, "slope");
    return [=](const Values& in) { return at::leaky_relu(in[0], slope); };
  }
  if (op == "elu") {
    const double alpha = attribute_real(node, "alpha");
    return [=](const Values& in) { return at::elu(in[0], alpha); };
  }
  if (op == "sigmoid") return [](const Values& in) { return at::sigmoid(in[0]); };
  if (op == "add") {
    return [](const Values& in) {
      at::Tensor sum = in[0] + in[1];
      for (std::size_t k = 2; k < in.size(); ++k) sum = sum + in[k];
      return sum;
    };
  }
  if (op == "multiply") return [](const Values& in) { return in[0] * in[1]; };
  if (op == "concat") {
    return [](const Values& in) { return in.size() == 1 ? in[0] : at::cat(in, 1); };
  }
  if (op == "max_pool" || op == "avg_pool") {
    const auto kernel = attribute_ints(node, "kernel"), stride = attribute_ints(node, "stride");
    const auto padding = attribute_ints(node, "padding");
    const bool largest = op == "max_pool";
    return [=](const Values& in) {
      if (largest) return at::max_pool3d(in[0], kernel, stride, padding);
      // LibTorch has no average pooling in bfloat16 on the CPU.
      const bool widen = in[0].device().is_cpu() && in[0].scalar_type() == at::kBFloat16;
      const at::Tensor x = widen ? in[0].to(at::kFloat) : in[0];
      return at::avg_pool3d(x, kernel, stride, padding).to(in[0].scalar_type());
    };
  }
  if (op == "resize") {
    const Vec3 scale = attribute_vec3(node, "scale");
    const bool nearest = attribute_text(node, "mode") == "nearest";
    return [=](const Values& in) {
      const at::ArrayRef<double> factors(scale.data(), 3);
      return nearest ? at::upsample_nearest3d(in[0], at::OptionalIntArrayRef(), factors)
                     : at::upsample_trilinear3d(in[0], at::OptionalIntArrayRef(), false, factors);
    };
  }
  if (op == "crop") {
    return [node](const Values& in) {
      const Extent3 like = in.size() > 1 ? space_of(in[1]) : Extent3{};
      const Margins margins = crop_margins(node, space_of(in[0]), in.size() > 1 ? &like : nullptr);
      at::Tensor x = in[0];
      for (std::size_t a = 0; a < 3; ++a) {
        const auto axis = static_cast<std::int64_t>(a) + 2;
        x = x.slice(axis, margins.begin[a], x.size(axis) - margins.end[a]);
      }
      return x;
    };
  }
  if (op == "pad") {
    const Extent3 b = attribute_extent(node, "begin"), e = attribute_extent(node, "end");
    const double value = attribute_real(node, "value");
    return [=](const Values& in) {
      return at::constant_pad_nd(in[0], {b[2], e[2], b[1], e[1], b[0], e[0]}, value);
    };
  }
  if (op == "slice") {
    const std::int64_t begin = attribute_int(node, "begin"), end = attribute_int(node, "end");
    return [=](const Values& in) { return in[0].slice(1, begin, end); };
  }
  NAS_CHECK_KIND(
      Internal, op == "output", node_label(node), ": no LibTorch lowering for this operation");
  return [](const Values& in) { return in[0]; };
}

}  // namespace nas
