// SPDX-License-Identifier: Apache-2.0
#include "training/model/convolution.h"

#include <algorithm>
#include <utility>

namespace nas {
namespace {

struct WeightedSum : torch::autograd::Function<WeightedSum> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& weights,
                            at::TensorList terms) {
    const at::Tensor w = weights.to(at::kCPU, at::kDouble).contiguous();
    const double* factor = w.const_data_ptr<double>();
    at::Tensor sum = at::mul(terms[0], factor[0]);
    for (std::size_t k = 1; k < terms.size(); ++k) sum.add_(terms[k], factor[k]);
    Values saved{weights};
    if (weights.requires_grad()) saved.insert(saved.end(), terms.begin(), terms.end());
    context->save_for_backward(std::move(saved));
    return sum;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& upstream) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& weights = saved[0];
    const at::Tensor w = weights.to(at::kCPU, at::kDouble).contiguous();
    const at::Tensor& dy = upstream[0];
    Values result(1 + static_cast<std::size_t>(w.numel()));
    for (std::size_t k = 1; k < result.size(); ++k) {
      if (context->needs_input_grad(k)) result[k] = dy * w.const_data_ptr<double>()[k - 1];
    }
    if (saved.size() > 1 && context->needs_input_grad(0)) {
      // In the lower types a product is rounded but its sum is not.
      const at::ScalarType wide = dy.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      Values slopes;
      for (std::size_t k = 1; k < saved.size(); ++k) slopes.push_back((dy * saved[k]).sum(wide));
      result[0] = at::stack(slopes).to(weights.options());
    }
    return result;
  }
};

}  // namespace

at::Tensor weighted_sum(const at::Tensor& weights, const Values& terms) {
  return WeightedSum::apply(weights, at::TensorList(terms));
}

std::optional<Convolution> compose(const Convolution& first, const Convolution& second) {
  if (first.bias || first.groups != 1 || second.groups != 1) return std::nullopt;
  Convolution whole;
  for (std::size_t a = 0; a < 3; ++a) {
    const bool second_is_point = second.size[a] == 1 && second.padding[a] == 0;
    const bool first_is_point = first.size[a] == 1 && first.padding[a] == 0 && first.stride[a] == 1;
    if (!second_is_point && !first_is_point) return std::nullopt;
    const Convolution& wide = second_is_point ? first : second;
    whole.size.push_back(wide.size[a]);
    whole.stride.push_back(first.stride[a] * second.stride[a]);
    whole.padding.push_back(wide.padding[a]);
    whole.dilation.push_back(wide.dilation[a]);
  }
  whole.in = first.in;
  whole.out = second.out;
  whole.bias = second.bias;
  whole.name = first.name + ">" + second.name;
  const std::vector<std::int64_t> size = whole.size;
  whole.kernel = [f = first.kernel, g = second.kernel, size] {
    const at::Tensor a = f(), b = g();  // [M, I, a...], [O, M, b...]: one of a and b is 1 per axis
    const std::int64_t middle = a.size(0), in = a.size(1), out = b.size(0);
    const at::Tensor product =
        at::mm(b.permute({0, 2, 3, 4, 1}).reshape({-1, middle}), a.reshape({middle, -1}));
    return product
        .reshape({out, b.size(2), b.size(3), b.size(4), in, a.size(2), a.size(3), a.size(4)})
        .permute({0, 4, 1, 5, 2, 6, 3, 7})
        .reshape({out, in, size[0], size[1], size[2]});
  };
  return whole;
}

std::optional<Convolution> superpose(const std::vector<Convolution>& terms,
                                     std::function<at::Tensor()> weights) {
  Convolution whole = terms.front();
  std::vector<std::int64_t> after(3, 0);
  bool any_bias = false;
  for (const Convolution& term : terms) {
    if (term.groups != 1 || term.stride != whole.stride) return std::nullopt;
    for (std::size_t a = 0; a < 3; ++a) {
      if (term.dilation[a] != 1 && term.size[a] != 1) return std::nullopt;
      whole.padding[a] = std::max(whole.padding[a], term.padding[a]);
      after[a] = std::max(after[a], term.size[a] - 1 - term.padding[a]);
    }
    any_bias = any_bias || term.bias;
  }
  std::vector<std::vector<std::int64_t>> margins;  // as constant_pad_nd takes them, last axis first
  for (const Convolution& term : terms) {
    std::vector<std::int64_t> margin;
    for (const std::size_t a : {2, 1, 0}) {
      margin.push_back(whole.padding[a] - term.padding[a]);
      margin.push_back(after[a] - (term.size[a] - 1 - term.padding[a]));
    }
    margins.push_back(std::move(margin));
  }
  for (std::size_t a = 0; a < 3; ++a) whole.size[a] = whole.padding[a] + 1 + after[a];
  whole.dilation = {1, 1, 1};
  whole.kernel = [terms, margins, weights] {
    const at::Tensor w = weights();
    at::Tensor sum;
    for (std::size_t k = 0; k < terms.size(); ++k) {
      const at::Tensor kernel = terms[k].kernel();
      const at::Tensor part = at::constant_pad_nd(kernel, margins[k]) *
                              w[static_cast<std::int64_t>(k)].to(kernel.options());
      sum = sum.defined() ? sum + part : part;
    }
    return sum;
  };
  whole.bias = nullptr;
  if (any_bias) {
    whole.bias = [terms, weights] {
      const at::Tensor w = weights();
      at::Tensor sum;
      for (std::size_t k = 0; k < terms.size(); ++k) {
        if (!terms[k].bias) continue;
        const at::Tensor bias = terms[k].bias();
        const at::Tensor part = bias * w[static_cast<std::int64_t>(k)].to(bias.options());
        sum = sum.defined() ? sum + part : part;
      }
      return sum;
    };
  }
  return whole;
}

ConvolutionType::ConvolutionType(const at::Tensor& x,
                                 at::IntArrayRef extents,
                                 const std::vector<std::int64_t>& kernel)
    : type_(x.scalar_type()) {
  if (!x.device().is_cpu() || type_ != at::kBFloat16) return;
  for (std::size_t axis = 0; axis < kernel.size(); ++axis) {
    if (extents[axis] < kernel[axis]) type_ = at::kFloat;
  }
  if (type_ == at::kFloat) exact_.emplace(c10::DispatchKey::AutocastCPU);
}

StepFunction run_convolution(const Convolution& conv) {
  return [conv](const Values& in) {
    const ConvolutionType type(in[0], in[0].sizes().slice(2), conv.size);
    const at::Tensor bias = conv.bias ? conv.bias().to(type) : at::Tensor();
    return at::conv3d(in[0].to(type),
                      conv.kernel().to(type),
                      bias,
                      conv.stride,
                      conv.padding,
                      conv.dilation,
                      conv.groups)
        .to(in[0].scalar_type());
  };
}

at::Tensor block_conv_transpose(const at::Tensor& x,
                                const at::Tensor& weight,
                                const at::Tensor& bias) {
  const std::int64_t n = x.size(0), in = x.size(1), out = weight.size(1);
  const std::int64_t kd = weight.size(2), kh = weight.size(3), kw = weight.size(4);
  const at::Tensor rows = x.permute({0, 2, 3, 4, 1}).reshape({-1, in});
  const at::Tensor matrix = weight.permute({0, 2, 3, 4, 1}).reshape({in, kd * kh * kw * out});
  const at::Tensor product =
      bias.defined() ? at::addmm(bias.repeat({kd * kh * kw}), rows, matrix) : at::mm(rows, matrix);
  const std::int64_t d = x.size(2), h = x.size(3), w = x.size(4);
  return product.reshape({n, d, h, w, kd, kh, kw, out})
      .permute({0, 1, 4, 2, 5, 3, 6, 7})
      .reshape({n, d * kd, h * kh, w * kw, out})
      .permute({0, 4, 1, 2, 3});
}

}  // namespace nas
