// SPDX-License-Identifier: Apache-2.0
#include "training/model/graph_module.h"

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numbers>
#include <numeric>
#include <optional>
#include <set>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "training/kernels/norm_act.h"
#include "training/model/state_views.h"

namespace nas {
namespace {

using Values = std::vector<at::Tensor>;

constexpr auto kLast = at::MemoryFormat::ChannelsLast3d;

/// Normal numbers, a function of `stream` and the index alone (Box-Muller over Philox words).
at::Tensor normal_values(const std::vector<std::int64_t>& shape,
                         double deviation,
                         const Rng& stream) {
  const at::Tensor values = at::empty(shape, at::kFloat);
  float* out = values.data_ptr<float>();
  const std::int64_t count = values.numel();
  for (std::int64_t i = 0; i < count; i += 4) {
    const Philox4 words = philox4x32(stream.key(), static_cast<std::uint64_t>(i / 4));
    for (int pair = 0; pair < 2; ++pair) {
      const double radius =
          std::sqrt(-2 * std::log1p(-static_cast<double>(uniform_from_bits(words.v[2 * pair]))));
      const double angle = 2 * std::numbers::pi * uniform_from_bits(words.v[2 * pair + 1]);
      const std::int64_t at = i + 2 * pair;
      if (at < count) out[at] = static_cast<float>(deviation * radius * std::cos(angle));
      if (at + 1 < count) out[at + 1] = static_cast<float>(deviation * radius * std::sin(angle));
    }
  }
  return values;
}

Extent3 space_of(const at::Tensor& x) { return {x.size(2), x.size(3), x.size(4)}; }

}  // namespace

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

at::Tensor norm_act_composed(const at::Tensor& x,
                             const at::Tensor& weight,
                             const at::Tensor& bias,
                             double eps,
                             double slope) {
  // Statistics in float32 whatever the type of x: in bfloat16 the variance of a flat channel is
  // rounding noise.
  const bool low = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  const at::Tensor wide = low ? x.to(at::kFloat) : x;
  at::Tensor y = at::instance_norm(wide,
                                   weight,
                                   bias,
                                   {},
                                   {},
                                   /*use_input_stats=*/true,
                                   0.1,
                                   eps,
                                   at::globalContext().userEnabledCuDNN());
  if (slope != 1) y = at::leaky_relu(y, slope);
  return low ? y.to(x.scalar_type()) : y;
}

namespace {

const kernels::ParallelFor kTorchThreads =
    [](std::int64_t count, const std::function<void(std::int64_t, std::int64_t)>& body) {
      at::parallel_for(0, count, 1, body);
    };

const float* floats_or_null(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

/// Calls f with typed pointers: float as it is, bfloat16 as its bits.
template <class F>
void with_pointer_type(const at::Tensor& x, F&& f) {
  if (x.scalar_type() == at::kFloat) {
    f([](const at::Tensor& t) { return static_cast<float*>(t.data_ptr()); });
  } else {
    f([](const at::Tensor& t) { return static_cast<kernels::Bf16*>(t.data_ptr()); });
  }
}

kernels::NormActShape norm_shape(const at::Tensor& x) {
  return {x.size(0), x.size(2) * x.size(3) * x.size(4), x.size(1)};
}

/// norm_act over the NDHWC kernels. Keeps the input: the result is recomputed in the backward pass.
struct NormActFunction : torch::autograd::Function<NormActFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& input,
                            const std::optional<at::Tensor>& affine_weight,
                            const std::optional<at::Tensor>& affine_bias,
                            double eps,
                            double slope) {
    const at::Tensor weight = affine_weight.value_or(at::Tensor());
    const at::Tensor bias = affine_bias.value_or(at::Tensor());
    const at::Tensor x = input.contiguous(kLast);
    const at::Tensor y = at::empty_like(x);
    const at::Tensor mean = at::empty({x.size(0), x.size(1)}, at::kFloat),
                     rstd = at::empty_like(mean);
    with_pointer_type(x, [&](auto pointer) {
      kernels::norm_act_forward<std::remove_pointer_t<decltype(pointer(x))>>(
          pointer(x),
          norm_shape(x),
          floats_or_null(weight),
          floats_or_null(bias),
          static_cast<float>(eps),
          static_cast<float>(slope),
          pointer(y),
          mean.data_ptr<float>(),
          rstd.data_ptr<float>(),
          kTorchThreads);
    });
    context->save_for_backward({x, weight, bias, mean, rstd});
    context->saved_data["slope"] = slope;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& upstream) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &mean = saved[3],
                     &rstd = saved[4];
    const at::Tensor dy = upstream[0].to(x.scalar_type()).contiguous(kLast);
    const at::Tensor dx = at::empty_like(x);
    at::Tensor dweight, dbias;
    if (weight.defined()) {
      dweight = at::empty_like(weight);
      dbias = at::empty_like(bias);
    }
    with_pointer_type(x, [&](auto pointer) {
      kernels::norm_act_backward<std::remove_pointer_t<decltype(pointer(x))>>(
          pointer(dy),
          pointer(x),
          norm_shape(x),
          floats_or_null(weight),
          floats_or_null(bias),
          static_cast<float>(context->saved_data["slope"].toDouble()),
          mean.const_data_ptr<float>(),
          rstd.const_data_ptr<float>(),
          pointer(dx),
          weight.defined() ? dweight.data_ptr<float>() : nullptr,
          weight.defined() ? dbias.data_ptr<float>() : nullptr,
          kTorchThreads);
    });
    return {dx, dweight, dbias, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor norm_act(const at::Tensor& x,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    double eps,
                    double slope) {
  const bool own = x.device().is_cpu() &&
                   (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
                   (!weight.defined() || weight.scalar_type() == at::kFloat);
  if (!own) return norm_act_composed(x, weight, bias, eps, slope);
  const auto optional = [](const at::Tensor& t) {
    return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt;
  };
  return NormActFunction::apply(x, optional(weight), optional(bias), eps, slope);
}

namespace {

/// y = sum_k w_k x_k over the alternatives of a choice. The terms are kept only where the weights
/// need a gradient, so that a weight step of a super-network costs no more memory than its
/// branches.
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

/// A convolution as the program runs it: its kernel is a function of parameters, so that several
/// convolutions of the graph can be one.
struct Convolution {
  std::function<at::Tensor()> kernel;  // [Cout, Cin / groups, kD, kH, kW]
  std::function<at::Tensor()> bias;    // [Cout]; empty: none
  std::vector<std::int64_t> size, stride, padding, dilation;
  std::int64_t groups = 1;
  std::int64_t in = 0, out = 0;  // channels
  std::string name;

  double macs() const {  // per voxel of the result
    return static_cast<double>(in / groups * out * size[0] * size[1] * size[2]);
  }
};

/// `second` after `first` as one convolution, with equal values and gradients: kernels multiply
/// over the channels between. \returns nullopt where that is not exact: a bias in between (its sum
/// would change at the borders), groups, or an axis where both kernels have more than one tap (the
/// zeros that pad the result in between are not what one convolution sees there).
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

/// The alternatives of a choice as one convolution with the kernel sum_k w_k K_k, each K_k in its
/// place in the smallest kernel that holds all. `weights` gives the [k] mixture weights when it
/// runs. \returns nullopt where strides differ, or on groups and dilation.
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

std::function<at::Tensor(const Values&)> run_convolution(const Convolution& conv) {
  return [conv](const Values& in) {
    const auto type = in[0].scalar_type();
    const at::Tensor bias = conv.bias ? conv.bias().to(type) : at::Tensor();
    return at::conv3d(
        in[0], conv.kernel().to(type), bias, conv.stride, conv.padding, conv.dilation, conv.groups);
  };
}

std::string alternative_prefix(const std::string& choice, std::size_t k) {
  return choice + ".alt" + std::to_string(k) + ".";
}

/// Operations without state.
std::function<at::Tensor(const Values&)> stateless_step(const Node& node) {
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

/// Runs steps [begin, end) of `program`; see GraphModuleImpl::run.
void run_steps(const Program& program,
               std::size_t begin,
               std::size_t end,
               Values& values,
               const std::vector<char>* keep) {
  Values arguments;
  for (std::size_t s = begin; s < end; ++s) {
    const Program::Step& step = program.steps[s];
    if (!step.run) continue;  // an input: given
    arguments.clear();
    for (const int i : step.inputs) arguments.push_back(values[static_cast<std::size_t>(i)]);
    for (const int i : step.last_used) {
      if (!keep || !(*keep)[static_cast<std::size_t>(i)]) {
        values[static_cast<std::size_t>(i)] = at::Tensor();
      }
    }
    values[static_cast<std::size_t>(step.node)] = step.run(arguments);
  }
}

}  // namespace

torch::nn::Module& GraphModuleImpl::holder(const std::string& node) {
  torch::nn::Module* place = this;
  std::size_t begin = 0;
  while (begin <= node.size()) {
    const std::size_t end = std::min(node.find('.', begin), node.size());
    const std::string part = node.substr(begin, end - begin);
    const auto children = place->named_children();
    if (const auto* found = children.find(part)) {
      place = found->get();
    } else {
      place = place->register_module(part, std::make_shared<torch::nn::Module>()).get();
    }
    begin = end + 1;
  }
  return *place;
}
const at::Tensor& GraphModuleImpl::state_of(const std::string& name) const {
  static const at::Tensor none;
  const auto found = state_.find(name);
  return found == state_.end() ? none : found->second;
}

GraphModuleImpl::GraphModuleImpl(Graph graph, std::uint64_t seed) : graph_(std::move(graph)) {
  validate(graph_);
  make_state(graph_, "", {}, seed);
  choice_sizes_ = choice_sizes(graph_);
  if (choice_sizes_.empty()) select_path({});
}

std::int64_t GraphModuleImpl::make_state(const Graph& graph,
                                         const std::string& prefix,
                                         const std::vector<std::int64_t>& given,
                                         std::uint64_t seed) {
  std::vector<std::int64_t> channels;
  std::size_t next_input = 0;
  std::int64_t result = 0;  // channels of the last output
  const Rng random = Rng(seed).split("weights");
  for (const Node& node : graph.nodes) {
    const std::string name = prefix + node.name;
    std::vector<std::int64_t> input_channels;
    std::vector<TensorShape> input_shapes;
    for (const int input : node.inputs) {
      input_channels.push_back(channels[static_cast<std::size_t>(input)]);
      input_shapes.push_back({input_channels.back(), {8, 8, 8}});
    }
    if (!node.alternatives.empty()) {
      for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
        const std::int64_t found =
            make_state(node.alternatives[k], alternative_prefix(name, k), input_channels, seed);
        if (k == 0) channels.push_back(found);
      }
      continue;
    }
    const bool is_given = node.op == "input" && !prefix.empty();
    channels.push_back(is_given ? given.at(next_input++) : result_channels(node, input_channels));
    if (node.op == "output") result = channels.back();

    for (const StateTensor& tensor : state_tensors(node, input_shapes)) {
      at::Tensor value;
      if (tensor.name == "weight" && tensor.shape.size() == 5) {
        // Fan in as LibTorch counts it: axis 1 times the kernel (of a transposed kernel these are
        // its outputs).
        const double fan = static_cast<double>(tensor.shape[1] * tensor.shape[2] * tensor.shape[3] *
                                               tensor.shape[4]);
        value = normal_values(tensor.shape,
                              std::sqrt(2 / (1 + 0.01 * 0.01) / fan),
                              random.split(name).split(tensor.name));
      } else if (tensor.name == "weight") {
        value = at::full(tensor.shape, node.op == "prelu" ? 0.25 : 1.0);
      } else {
        value = at::full(tensor.shape, tensor.name == "running_var" ? 1.0 : 0.0);
      }
      torch::nn::Module& place = holder(name);
      state_[name + "." + tensor.name] = tensor.learnable
                                             ? place.register_parameter(tensor.name, value)
                                             : place.register_buffer(tensor.name, value);
    }
  }
  return result;
}

/// Turns graphs into programs over the state of `module`. Choices are numbered in the order of
/// choice_sizes().
struct GraphModuleImpl::Lowering {
  GraphModuleImpl* const module;
  std::size_t next_choice = 0;

  Program lower(const Graph& graph, const std::string& prefix);
  Program::Step lower_choice(const Node& node,
                             int index,
                             const std::string& name,
                             Program& program);
  /// The convolution of a node; `keeps_bias` false: its bias is left out.
  Convolution convolution(const Node& node, const std::string& name, bool keeps_bias) const;
  /// An alternative that is a chain of convolutions as one; nullopt if it is anything else.
  std::optional<Convolution> as_convolution(const Graph& graph, const std::string& prefix) const;
};

Convolution GraphModuleImpl::Lowering::convolution(const Node& node,
                                                   const std::string& name,
                                                   bool keeps_bias) const {
  const at::Tensor weight = module->state_of(name + ".weight"),
                   bias = module->state_of(name + ".bias");
  Convolution result;
  result.name = name;
  result.kernel = [weight] { return weight; };
  if (bias.defined() && keeps_bias) result.bias = [bias] { return bias; };
  result.size = attribute_ints(node, "kernel");
  result.stride = attribute_ints(node, "stride");
  result.padding = attribute_ints(node, "padding");
  result.dilation = attribute_ints(node, "dilation");
  result.groups = attribute_int(node, "groups");
  result.out = weight.size(0);
  result.in = weight.size(1) * result.groups;
  return result;
}

std::optional<Convolution> GraphModuleImpl::Lowering::as_convolution(
    const Graph& graph, const std::string& prefix) const {
  std::optional<Convolution> whole;
  int last = -1;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.op == "input" && last < 0) {
      last = static_cast<int>(i);
      continue;
    }
    if (node.inputs != std::vector<int>{last}) return std::nullopt;
    if (node.op == "output") return whole;
    if (node.op != "conv") return std::nullopt;
    const Convolution next = convolution(node, prefix + node.name, true);
    whole = whole ? compose(*whole, next) : next;
    if (!whole) return std::nullopt;
    last = static_cast<int>(i);
  }
  return std::nullopt;
}

Program GraphModuleImpl::Lowering::lower(const Graph& graph, const std::string& prefix) {
  GraphModuleImpl* const m = module;
  const std::size_t count = graph.nodes.size();
  std::vector<int> uses(count, 0);
  for (const Node& node : graph.nodes) {
    for (const int input : node.inputs) ++uses[static_cast<std::size_t>(input)];
  }
  Program program;
  program.graph = graph;

  // Which node does the work of which: a norm runs the activation behind it, a convolution the one
  // in front of it (merging); a convolution in front of a norm drops its bias.
  std::vector<char> runs_elsewhere(count, 0), without_bias(count, 0);
  std::vector<int> activation(count, -1);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    if (node.inputs.empty()) continue;
    const auto source = static_cast<std::size_t>(node.inputs[0]);
    const Node& before = graph.nodes[source];
    if (uses[source] != 1) continue;
    if ((node.op == "leaky_relu" || node.op == "relu") && before.op == "instance_norm") {
      activation[source] = static_cast<int>(i);
      runs_elsewhere[i] = 1;
    }
    if (node.op == "instance_norm" && before.op == "conv") without_bias[source] = 1;
  }
  std::map<std::size_t, Convolution> convolutions;
  std::vector<std::vector<int>> sources(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    sources[i] = node.inputs;
    if (node.op != "conv") continue;
    Convolution own = convolution(node, prefix + node.name, !without_bias[i]);
    const auto before = static_cast<std::size_t>(node.inputs[0]);
    if (m->merge_ != Merge::None && uses[before] == 1 && convolutions.contains(before)) {
      const Convolution& first = convolutions.at(before);
      const std::optional<Convolution> whole = compose(first, own);
      if (whole && whole->macs() <= first.macs() + own.macs()) {
        sources[i] = sources[before];
        runs_elsewhere[before] = 1;
        own = *whole;
        ++program.merged_pairs;
      }
    }
    convolutions.emplace(i, std::move(own));
  }

  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    if (node.op == "choice") {
      program.steps.push_back(lower_choice(node, static_cast<int>(i), prefix + node.name, program));
      continue;
    }
    if (runs_elsewhere[i]) continue;
    const std::string name = prefix + node.name;
    Program::Step step;
    step.node = static_cast<int>(i);
    step.inputs = sources[i];
    step.does = name;
    const at::Tensor weight = m->state_of(name + ".weight"), bias = m->state_of(name + ".bias");
    const std::string& op = node.op;
    if (op == "conv") {
      const Convolution& conv = convolutions.at(i);
      step.does = conv.name + (without_bias[i] ? " without bias" : "");
      step.run = run_convolution(conv);
    } else if (op == "conv_transpose") {
      const auto stride = attribute_ints(node, "stride"), padding = attribute_ints(node, "padding");
      const bool blocks =
          attribute_ints(node, "kernel") == stride && padding == std::vector<std::int64_t>{0, 0, 0};
      step.run = [=](const Values& in) {
        const auto type = in[0].scalar_type();
        const at::Tensor w = weight.to(type), b = bias.defined() ? bias.to(type) : bias;
        if (blocks && m->fused_ && in[0].device().is_cpu())
          return block_conv_transpose(in[0], w, b);
        return at::conv_transpose3d(in[0], w, b, stride, padding);
      };
    } else if (op == "instance_norm") {
      const double eps = attribute_real(node, "eps");
      double slope = 1;
      if (activation[i] >= 0) {
        step.node = activation[i];
        const Node& next = graph.nodes[static_cast<std::size_t>(step.node)];
        slope = next.op == "relu" ? 0 : attribute_real(next, "slope");
        step.does += " + " + prefix + next.name;
      }
      step.run = [=](const Values& in) {
        return m->fused_ ? norm_act(in[0], weight, bias, eps, slope)
                         : norm_act_composed(in[0], weight, bias, eps, slope);
      };
    } else if (op == "batch_norm") {
      const double eps = attribute_real(node, "eps"), momentum = attribute_real(node, "momentum");
      const at::Tensor mean = m->state_of(name + ".running_mean"),
                       var = m->state_of(name + ".running_var");
      step.run = [=](const Values& in) {
        return at::batch_norm(in[0],
                              weight,
                              bias,
                              mean,
                              var,
                              m->is_training() || m->norm_momentum_.has_value(),
                              m->norm_momentum_.value_or(momentum),
                              eps,
                              at::globalContext().userEnabledCuDNN());
      };
    } else if (op == "dropout") {
      const double keep = 1 - attribute_real(node, "p");
      step.run = [=](const Values& in) {
        if (!m->is_training() || keep >= 1) return in[0];
        at::Generator generator = at::globalContext().defaultGenerator(in[0].device()).clone();
        generator.set_current_seed(Rng(m->dropout_stream_).split("dropout").split(name).key());
        return in[0] * at::empty_like(in[0]).bernoulli_(keep, generator).mul_(1 / keep);
      };
    } else if (op == "prelu") {
      step.run = [=](const Values& in) { return at::prelu(in[0], weight.to(in[0].scalar_type())); };
    } else if (op != "input") {
      step.run = stateless_step(node);
    }
    program.steps.push_back(std::move(step));
  }

  std::vector<char> seen(count, 0);
  for (auto step = program.steps.rbegin(); step != program.steps.rend(); ++step) {
    for (const int input : step->inputs) {
      if (seen[static_cast<std::size_t>(input)]) continue;
      seen[static_cast<std::size_t>(input)] = 1;
      step->last_used.push_back(input);
    }
  }
  return program;
}

Program::Step GraphModuleImpl::Lowering::lower_choice(const Node& node,
                                                      int index,
                                                      const std::string& name,
                                                      Program& program) {
  GraphModuleImpl* const m = module;
  const std::size_t choice = next_choice++;
  Program::Step step;
  step.node = index;
  step.inputs = node.inputs;
  step.does = name;
  ++program.choices;

  if (m->merge_ == Merge::Mixed) {
    std::vector<Convolution> terms;
    for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
      auto term = as_convolution(node.alternatives[k], alternative_prefix(name, k));
      if (!term) break;
      terms.push_back(std::move(*term));
    }
    if (terms.size() == node.alternatives.size()) {
      if (const auto whole = superpose(terms, [m, choice] { return m->mixture_.at(choice); })) {
        ++program.merged_choices;
        step.run = run_convolution(*whole);
        return step;
      }
    }
  }

  struct Branch {
    Program program;
    std::vector<int> inputs;
    int output = 0;
  };
  auto branches = std::make_shared<std::vector<Branch>>();
  for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
    const Graph& alternative = node.alternatives[k];
    branches->push_back({lower(alternative, alternative_prefix(name, k)),
                         alternative.input_nodes(),
                         alternative.output_nodes().front()});
    const Program& inner = branches->back().program;
    program.merged_pairs += inner.merged_pairs;
    program.choices += inner.choices;
    program.merged_choices += inner.merged_choices;
  }
  step.run = [m, choice, branches](const Values& in) {
    Values terms;
    for (const Branch& branch : *branches) {
      Values values(branch.program.graph.nodes.size());
      for (std::size_t i = 0; i < in.size(); ++i) {
        values[static_cast<std::size_t>(branch.inputs[i])] = in[i];
      }
      run_steps(branch.program, 0, branch.program.steps.size(), values, nullptr);
      terms.push_back(values[static_cast<std::size_t>(branch.output)]);
    }
    return WeightedSum::apply(m->mixture_.at(choice), at::TensorList(terms));
  };
  return step;
}

std::shared_ptr<const Program> GraphModuleImpl::path(const std::vector<int>& picks,
                                                     bool first_output) {
  Graph closed = choice_sizes_.empty() && picks.empty() ? graph_ : close_choices(graph_, picks);
  if (first_output) closed = first_output_only(closed);
  return std::make_shared<const Program>(Lowering{this}.lower(closed, ""));
}

void GraphModuleImpl::select_path(const std::vector<int>& picks) { active_ = path(picks); }

const Program& GraphModuleImpl::mix(std::vector<at::Tensor> weights) {
  NAS_CHECK_KIND(Usage,
                 !choice_sizes_.empty() && weights.size() == choice_sizes_.size(),
                 "network '",
                 graph_.name,
                 "': expected mixture weights for ",
                 choice_sizes_.size(),
                 " choices, found ",
                 weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    NAS_CHECK_KIND(Shape,
                   weights[i].dim() == 1 && weights[i].size(0) == choice_sizes_[i],
                   "network '",
                   graph_.name,
                   "': mixture weights of choice ",
                   i,
                   ": expected ",
                   choice_sizes_[i],
                   " numbers, found sizes ",
                   weights[i].sizes());
  }
  if (!mixture_program_) {
    auto program = std::make_shared<const Program>(Lowering{this}.lower(graph_, ""));
    NAS_CHECK_KIND(Usage,
                   merge_ != Merge::Mixed || program->merged_choices > 0,
                   "network '",
                   graph_.name,
                   "': no choice has alternatives that are convolutions alone (norm and activation "
                   "after the choice), so merging the mixed operation would change nothing; use "
                   "merging \"none\" or \"exact\"");
    mixture_program_ = std::move(program);
  }
  mixture_ = std::move(weights);
  active_ = mixture_program_;
  return *active_;
}

void GraphModuleImpl::set_merge(Merge merge) {
  merge_ = merge;
  mixture_program_.reset();
  active_.reset();
  if (choice_sizes_.empty()) select_path({});
}

std::vector<at::Tensor> GraphModuleImpl::start(const Program& program, const at::Tensor& input) {
  NAS_CHECK_KIND(Shape,
                 input.dim() == 5,
                 "network '",
                 graph_.name,
                 "': expected input [N, C, D, H, W], found ",
                 input.sizes());
  const auto device = input.device();
  // Autocast decides the type, but we cast ourselves: weights once per step, and norms read and
  // write the lower type with statistics in float32.
  const at::ScalarType type = at::autocast::is_autocast_enabled(device.type())
                                  ? at::autocast::get_autocast_dtype(device.type())
                                  : input.scalar_type();
  const Autocast off(device, at::kFloat);
  at::Tensor x = input.to(type);
  if (fused_ && device.is_cpu()) x = x.contiguous(kLast);
  Values values(program.graph.nodes.size());
  for (const int i : program.graph.input_nodes()) {
    const Node& node = program.graph.nodes[static_cast<std::size_t>(i)];
    NAS_CHECK_KIND(Shape,
                   input.size(1) == attribute_int(node, "channels"),
                   node_label(node),
                   ": expected ",
                   attribute_int(node, "channels"),
                   " channels, found input ",
                   input.sizes());
    values[static_cast<std::size_t>(i)] = x;
  }
  return values;
}

void GraphModuleImpl::run(const Program& program,
                          std::size_t begin,
                          std::size_t end,
                          std::vector<at::Tensor>& values,
                          const std::vector<char>* keep) {
  run_steps(program, begin, end, values, keep);
}

std::vector<at::Tensor> GraphModuleImpl::forward(const at::Tensor& input) {
  NAS_CHECK_KIND(Usage,
                 active_ != nullptr,
                 "network '",
                 graph_.name,
                 "' has open choices: select a path or mix the alternatives before running it");
  const std::shared_ptr<const Program> program = active_;
  Values values = start(*program, input);
  const Autocast off(input.device(), at::kFloat);
  run_steps(*program, 0, program->steps.size(), values, nullptr);
  Values outputs;
  for (const int i : program->graph.output_nodes())
    outputs.push_back(values[static_cast<std::size_t>(i)]);
  return outputs;
}

std::size_t shared_steps(const Program& a, const Program& b) {
  const std::size_t most = std::min(a.steps.size(), b.steps.size());
  for (std::size_t s = 0; s < most; ++s) {
    const Program::Step &x = a.steps[s], &y = b.steps[s];
    if (x.node != y.node || x.inputs != y.inputs || x.does != y.does) return s;
  }
  return most;
}

Autocast::Autocast(const at::Device& device, at::ScalarType type)
    : device_(device.type()),
      was_enabled_(at::autocast::is_autocast_enabled(device_)),
      was_type_(at::autocast::get_autocast_dtype(device_)) {
  const bool enable = type == at::kBFloat16 || type == at::kHalf;
  at::autocast::increment_nesting();
  at::autocast::set_autocast_enabled(device_, enable);
  if (enable) at::autocast::set_autocast_dtype(device_, type);
}

Autocast::~Autocast() {
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, was_type_);
  // The cache holds casts of weights that the next step changes.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

at::ScalarType choose_precision(const std::string& precision, const at::Device& device) {
  if (precision == "fp32") return at::kFloat;
  if (precision == "bf16") return at::kBFloat16;
  if (precision == "fp16") {
    NAS_CHECK_KIND(
        Usage, !device.is_cpu(), "precision fp16 needs a CUDA device; on the CPU use bf16 or fp32");
    return at::kHalf;
  }
  NAS_CHECK_KIND(Usage,
                 precision == "auto",
                 "precision: expected auto, fp32, bf16 or fp16; found '",
                 precision,
                 "'");
  if (device.is_cpu()) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16"))
      return at::kBFloat16;
#endif
    return at::kFloat;
  }
  return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8() ? at::kBFloat16
                                                                             : at::kHalf;
}

void save_weights(const std::string& file, const torch::nn::Module& module) {
  write_safetensors(file, state_views(module).views, {{"format", "pt"}});
}

namespace {

at::Tensor to_tensor(const TensorView& view) {
  const auto values = std::make_shared<std::vector<float>>(to_floats(view));
  return torch::from_blob(
      values->data(), view.shape, [values](void*) {}, at::kFloat);
}

/// Channels of a wide network's value that the narrow one has too, ascending; empty: not known.
using SharedChannels = std::vector<std::int64_t>;

SharedChannels first_channels(std::int64_t count) {
  SharedChannels channels(static_cast<std::size_t>(count));
  std::iota(channels.begin(), channels.end(), 0);
  return channels;
}

/// Those of a merge.
SharedChannels merged_channels(const Node& node,
                               const std::vector<SharedChannels>& shared,
                               const std::vector<std::int64_t>& channels) {
  SharedChannels result;
  std::int64_t offset = 0;
  for (const int input : node.inputs) {
    const auto i = static_cast<std::size_t>(input);
    if (shared[i].empty()) return {};
    if (node.op == "concat") {
      for (const std::int64_t channel : shared[i]) result.push_back(offset + channel);
      offset += channels[i];
    } else {
      if (input != node.inputs.front() && shared[i] != result) return {};
      result = shared[i];
    }
  }
  return result;
}

/// Puts the weight of a convolution into the part of a wider one that belongs to shared channels,
/// and 0 where a shared result would read another channel. \returns whether it fits.
bool widen(const TensorView& narrow,
           const at::Tensor& wide,
           std::int64_t out_axis,
           const SharedChannels& in) {
  const at::IntArrayRef shape(narrow.shape);
  if (in.empty() || std::ssize(shape) != wide.dim()) return false;
  const auto out = static_cast<std::size_t>(out_axis);
  const bool fits = shape[out] <= wide.size(out_axis) && shape[1 - out] == std::ssize(in) &&
                    shape.slice(2) == wide.sizes().slice(2);
  if (!fits) return false;
  at::Tensor results = wide.narrow(out_axis, 0, shape[out]);
  results.zero_();
  results.index_copy_(1 - out_axis, torch::tensor(in), to_tensor(narrow));
  return true;
}

WeightTransfer copy_matching(const SafetensorsFile& stored, torch::nn::Module& module) {
  WeightTransfer transfer;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      const bool agrees = stored.has(item.key()) &&
                          at::IntArrayRef(stored.at(item.key()).shape) == item.value().sizes();
      if (agrees) item.value().copy_(to_tensor(stored.at(item.key())));
      (agrees ? transfer.copied : transfer.own_start).push_back(item.key());
    }
  }
  return transfer;
}

}  // namespace

void load_weights(const std::string& file, torch::nn::Module& module) {
  const SafetensorsFile stored(file);
  std::set<std::string> known;
  const at::NoGradGuard no_grad;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      known.insert(item.key());
      NAS_CHECK(stored.has(item.key()),
                file,
                ": tensor ",
                item.key(),
                " is missing; this is not a file of this network");
      const TensorView& view = stored.at(item.key());
      const at::Tensor& target = item.value();
      NAS_CHECK(at::IntArrayRef(view.shape) == target.sizes(),
                file,
                ": tensor ",
                item.key(),
                ": expected shape ",
                target.sizes(),
                ", found ",
                at::IntArrayRef(view.shape));
      target.copy_(to_tensor(view));
    }
  }
  for (const auto& [name, view] : stored.tensors()) {
    NAS_CHECK(known.contains(name), file, ": tensor ", name, " belongs to no node of the network");
  }
}

WeightTransfer load_matching_weights(const std::string& file, torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  return copy_matching(SafetensorsFile(file), module);
}

WeightTransfer load_narrower_weights(const std::string& file, GraphModuleImpl& module) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile stored(file);
  WeightTransfer transfer = copy_matching(stored, module);
  const Graph& graph = module.graph();
  if (transfer.own_start.empty() || !graph.is_closed()) return transfer;
  const std::set<std::string> copied(transfer.copied.begin(), transfer.copied.end());
  const std::vector<std::int64_t> channels = channel_counts(graph);
  const auto state = graph_state(graph);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) tensors.emplace(item.key(), item.value());
  }

  std::vector<SharedChannels> shared(graph.nodes.size());
  std::set<std::string> widened;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const OperationKind kind = operation(node).kind;
    if (kind == OperationKind::Input) {
      shared[n] = first_channels(channels[n]);
      continue;
    }
    const auto input = static_cast<std::size_t>(node.inputs[0]);
    const SharedChannels& in = shared[input];
    const bool convolves = kind == OperationKind::Convolution;
    if (kind == OperationKind::Merge) {
      shared[n] = merged_channels(node, shared, channels);
    } else if (!convolves && channels[n] == channels[input]) {
      shared[n] = in;
    }
    for (const StateTensor& item : state[n]) {  // of a convolution: the weight, then the bias
      const std::string name = node.name + "." + item.name;
      if (!stored.has(name)) continue;
      if (copied.contains(name)) {
        if (convolves) shared[n] = first_channels(channels[n]);
        continue;
      }
      const TensorView& narrow = stored.at(name);
      const SharedChannels& results = convolves ? shared[n] : in;  // that a bias or norm belongs to
      bool fits = false;
      if (narrow.shape.size() > 1) {
        const std::int64_t out_axis = node.op == "conv_transpose" ? 1 : 0;
        const bool mixes = node.op != "conv" || attribute_int(node, "groups") == 1;
        fits = mixes && widen(narrow, tensors.at(name), out_axis, in);
        if (fits) shared[n] = first_channels(narrow.shape[static_cast<std::size_t>(out_axis)]);
      } else if (narrow.shape.size() == 1 && narrow.shape[0] == std::ssize(results)) {
        tensors.at(name).index_copy_(0, torch::tensor(results), to_tensor(narrow));
        fits = true;
      }
      if (fits) widened.insert(name);
    }
  }
  transfer.widened = std::ssize(widened);
  transfer.copied.insert(transfer.copied.end(), widened.begin(), widened.end());
  std::erase_if(transfer.own_start,
                [&](const std::string& name) { return widened.contains(name); });
  return transfer;
}

}  // namespace nas
