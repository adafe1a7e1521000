// SPDX-License-Identifier: Apache-2.0
#include "training/graph_module.h"

#include <cmath>
#include <functional>
#include <map>
#include <numbers>
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

/// One step of the program a graph is lowered to. Fused nodes share a step: `results` are dropped
/// after their last use.
struct GraphModuleImpl::Step {
  int node = 0;                // whose result this is
  std::vector<int> inputs;     // nodes
  std::vector<int> last_used;  // nodes whose value is not needed after this step
  bool is_output = false;
  std::function<at::Tensor(const Values&)> run;  // empty: a graph input
};

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

at::Tensor GraphModuleImpl::parameter(const std::string& node,
                                      const std::string& leaf,
                                      const at::Tensor& value) {
  return holder(node).register_parameter(leaf, value);
}

at::Tensor GraphModuleImpl::buffer(const std::string& node,
                                   const std::string& leaf,
                                   const at::Tensor& value) {
  return holder(node).register_buffer(leaf, value);
}

GraphModuleImpl::GraphModuleImpl(Graph graph, std::uint64_t seed) : graph_(std::move(graph)) {
  validate(graph_);
  NAS_CHECK_KIND(Usage,
                 graph_.is_closed(),
                 "network '",
                 graph_.name,
                 "' has open choices: close them (close_choices) before making a module of it");
  const std::size_t count = graph_.nodes.size();
  std::vector<int> uses(count, 0);
  for (const Node& node : graph_.nodes) {
    for (const int input : node.inputs) ++uses[static_cast<std::size_t>(input)];
  }

  // Which node does the work of which: a norm runs the activation behind it; a conv in front of a
  // norm drops its bias.
  std::vector<int> fused_into(count, -1);
  std::set<int> without_bias;
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph_.nodes[i];
    if (node.inputs.empty()) continue;
    const auto source = static_cast<std::size_t>(node.inputs[0]);
    const Node& before = graph_.nodes[source];
    if (uses[source] != 1) continue;
    if ((node.op == "leaky_relu" || node.op == "relu") && before.op == "instance_norm") {
      fused_into[i] = static_cast<int>(source);
    }
    if (node.op == "instance_norm" && before.op == "conv")
      without_bias.insert(static_cast<int>(source));
  }

  std::vector<std::int64_t> channels(count, 0);
  const Rng random = Rng(seed).split("weights");
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph_.nodes[i];
    std::vector<std::int64_t> input_channels;
    std::vector<TensorShape> input_shapes;
    for (const int input : node.inputs) {
      input_channels.push_back(channels[static_cast<std::size_t>(input)]);
      input_shapes.push_back({input_channels.back(), {8, 8, 8}});
    }
    channels[i] = result_channels(node, input_channels);

    at::Tensor weight, bias, running_mean, running_var;
    for (const StateTensor& tensor : state_tensors(node, input_shapes)) {
      const bool kernel = tensor.name == "weight" && tensor.shape.size() == 5;
      at::Tensor value;
      if (kernel) {
        // Fan in as LibTorch counts it: axis 1 times the kernel (of a transposed kernel these are
        // its outputs).
        const double fan = static_cast<double>(tensor.shape[1] * tensor.shape[2] * tensor.shape[3] *
                                               tensor.shape[4]);
        value = normal_values(tensor.shape,
                              std::sqrt(2 / (1 + 0.01 * 0.01) / fan),
                              random.split(node.name).split(tensor.name));
      } else if (tensor.name == "weight") {
        value = at::full(tensor.shape, node.op == "prelu" ? 0.25 : 1.0);
      } else {
        value = at::full(tensor.shape, tensor.name == "running_var" ? 1.0 : 0.0);
      }
      value = tensor.learnable ? parameter(node.name, tensor.name, value)
                               : buffer(node.name, tensor.name, value);
      if (tensor.name == "weight") weight = value;
      if (tensor.name == "bias") bias = value;
      if (tensor.name == "running_mean") running_mean = value;
      if (tensor.name == "running_var") running_var = value;
    }
    if (fused_into[i] >= 0) continue;

    auto step = std::make_shared<Step>();
    step->node = static_cast<int>(i);
    step->inputs = node.inputs;
    step->is_output = node.op == "output";
    const std::string& op = node.op;
    if (op == "conv") {
      const auto stride = attribute_ints(node, "stride"), padding = attribute_ints(node, "padding");
      const auto dilation = attribute_ints(node, "dilation");
      const std::int64_t groups = attribute_int(node, "groups");
      if (without_bias.contains(static_cast<int>(i))) bias = at::Tensor();
      step->run = [=](const Values& in) {
        const at::Tensor b = bias.defined() ? bias.to(in[0].scalar_type()) : bias;
        return at::conv3d(
            in[0], weight.to(in[0].scalar_type()), b, stride, padding, dilation, groups);
      };
    } else if (op == "conv_transpose") {
      const auto stride = attribute_ints(node, "stride"), padding = attribute_ints(node, "padding");
      const bool blocks = attribute_ints(node, "kernel") == stride &&
                          volume({padding[0], padding[1], padding[2]}) == 0 &&
                          padding == std::vector<std::int64_t>{0, 0, 0};
      step->run = [=, this](const Values& in) {
        const auto type = in[0].scalar_type();
        const at::Tensor w = weight.to(type), b = bias.defined() ? bias.to(type) : bias;
        if (blocks && fused_ && in[0].device().is_cpu()) return block_conv_transpose(in[0], w, b);
        return at::conv_transpose3d(in[0], w, b, stride, padding);
      };
    } else if (op == "instance_norm") {
      const double eps = attribute_real(node, "eps");
      double slope = 1;
      for (std::size_t j = i + 1; j < count; ++j) {
        if (graph_.nodes[j].inputs.empty() || graph_.nodes[j].inputs[0] != static_cast<int>(i))
          continue;
        const Node& next = graph_.nodes[j];
        if (uses[i] != 1 || (next.op != "relu" && next.op != "leaky_relu")) break;
        slope = next.op == "relu" ? 0 : attribute_real(next, "slope");
        step->node = static_cast<int>(j);
        break;
      }
      step->run = [=, this](const Values& in) {
        return fused_ ? norm_act(in[0], weight, bias, eps, slope)
                      : norm_act_composed(in[0], weight, bias, eps, slope);
      };
    } else if (op == "batch_norm") {
      const double eps = attribute_real(node, "eps"), momentum = attribute_real(node, "momentum");
      step->run = [=, this](const Values& in) {
        return at::batch_norm(in[0],
                              weight,
                              bias,
                              running_mean,
                              running_var,
                              is_training(),
                              momentum,
                              eps,
                              at::globalContext().userEnabledCuDNN());
      };
    } else if (op == "relu") {
      step->run = [](const Values& in) { return at::relu(in[0]); };
    } else if (op == "leaky_relu") {
      const double slope = attribute_real(node, "slope");
      step->run = [=](const Values& in) { return at::leaky_relu(in[0], slope); };
    } else if (op == "prelu") {
      step->run = [=](const Values& in) {
        return at::prelu(in[0], weight.to(in[0].scalar_type()));
      };
    } else if (op == "elu") {
      const double alpha = attribute_real(node, "alpha");
      step->run = [=](const Values& in) { return at::elu(in[0], alpha); };
    } else if (op == "sigmoid") {
      step->run = [](const Values& in) { return at::sigmoid(in[0]); };
    } else if (op == "add") {
      step->run = [](const Values& in) {
        at::Tensor sum = in[0] + in[1];
        for (std::size_t k = 2; k < in.size(); ++k) sum = sum + in[k];
        return sum;
      };
    } else if (op == "multiply") {
      step->run = [](const Values& in) { return in[0] * in[1]; };
    } else if (op == "concat") {
      step->run = [](const Values& in) { return in.size() == 1 ? in[0] : at::cat(in, 1); };
    } else if (op == "max_pool" || op == "avg_pool") {
      const auto kernel = attribute_ints(node, "kernel"), stride = attribute_ints(node, "stride");
      const auto padding = attribute_ints(node, "padding");
      const bool largest = op == "max_pool";
      step->run = [=](const Values& in) {
        if (largest) return at::max_pool3d(in[0], kernel, stride, padding);
        // LibTorch has no average pooling in bfloat16 on the CPU.
        const bool widen = in[0].device().is_cpu() && in[0].scalar_type() == at::kBFloat16;
        const at::Tensor x = widen ? in[0].to(at::kFloat) : in[0];
        return at::avg_pool3d(x, kernel, stride, padding).to(in[0].scalar_type());
      };
    } else if (op == "resize") {
      const Vec3 scale = attribute_vec3(node, "scale");
      const bool nearest = attribute_text(node, "mode") == "nearest";
      step->run = [=](const Values& in) {
        const at::ArrayRef<double> factors(scale.data(), 3);
        return nearest ? at::upsample_nearest3d(in[0], at::OptionalIntArrayRef(), factors)
                       : at::upsample_trilinear3d(in[0], at::OptionalIntArrayRef(), false, factors);
      };
    } else if (op == "crop") {
      step->run = [node](const Values& in) {
        const Extent3 like = in.size() > 1 ? space_of(in[1]) : Extent3{};
        const Margins margins =
            crop_margins(node, space_of(in[0]), in.size() > 1 ? &like : nullptr);
        at::Tensor x = in[0];
        for (std::size_t a = 0; a < 3; ++a) {
          const auto axis = static_cast<std::int64_t>(a) + 2;
          x = x.slice(axis, margins.begin[a], x.size(axis) - margins.end[a]);
        }
        return x;
      };
    } else if (op == "pad") {
      const Extent3 b = attribute_extent(node, "begin"), e = attribute_extent(node, "end");
      const double value = attribute_real(node, "value");
      step->run = [=](const Values& in) {
        return at::constant_pad_nd(in[0], {b[2], e[2], b[1], e[1], b[0], e[0]}, value);
      };
    } else if (op == "dropout") {
      const double keep = 1 - attribute_real(node, "p");
      step->run = [=, this](const Values& in) {
        if (!is_training() || keep >= 1) return in[0];
        at::Generator generator = at::globalContext().defaultGenerator(in[0].device()).clone();
        generator.set_current_seed(Rng(dropout_stream_).split("dropout", i).key());
        return in[0] * at::empty_like(in[0]).bernoulli_(keep, generator).mul_(1 / keep);
      };
    } else if (op == "slice") {
      const std::int64_t begin = attribute_int(node, "begin"), end = attribute_int(node, "end");
      step->run = [=](const Values& in) { return in[0].slice(1, begin, end); };
    } else if (op == "output") {
      step->run = [](const Values& in) { return in[0]; };
    } else {
      NAS_CHECK_KIND(
          Internal, op == "input", node_label(node), ": no LibTorch lowering for this operation");
    }
    steps_.push_back(std::move(step));
  }

  std::vector<bool> seen(count, false);
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    for (const int input : (*step)->inputs) {
      if (seen[static_cast<std::size_t>(input)]) continue;
      seen[static_cast<std::size_t>(input)] = true;
      (*step)->last_used.push_back(input);
    }
  }
}

std::vector<at::Tensor> GraphModuleImpl::forward(const at::Tensor& input) {
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

  Values values(graph_.nodes.size()), outputs, arguments;
  for (const auto& step : steps_) {
    at::Tensor result;
    if (!step->run) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(step->node)];
      NAS_CHECK_KIND(Shape,
                     input.size(1) == attribute_int(node, "channels"),
                     node_label(node),
                     ": expected ",
                     attribute_int(node, "channels"),
                     " channels, found input ",
                     input.sizes());
      result = x;
    } else {
      arguments.clear();
      for (const int i : step->inputs) arguments.push_back(values[static_cast<std::size_t>(i)]);
      for (const int i : step->last_used) values[static_cast<std::size_t>(i)] = at::Tensor();
      result = step->run(arguments);
    }
    if (step->is_output) outputs.push_back(result);
    values[static_cast<std::size_t>(step->node)] = std::move(result);
  }
  return outputs;
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
  std::map<std::string, TensorView, std::less<>> views;
  Values kept;  // the views point into these
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      kept.push_back(item.value().detach().to(at::kCPU, at::kFloat).contiguous());
      const at::Tensor& t = kept.back();
      views[item.key()] = view_floats(
          {t.const_data_ptr<float>(), static_cast<std::size_t>(t.numel())}, t.sizes().vec());
    }
  }
  write_safetensors(file, views, {{"format", "pt"}});
}

namespace {

void copy_into(const at::Tensor& target, const TensorView& view) {
  std::vector<float> values = to_floats(view);
  target.copy_(torch::from_blob(values.data(), target.sizes(), at::kFloat));
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
      copy_into(target, view);
    }
  }
  for (const auto& [name, view] : stored.tensors()) {
    NAS_CHECK(known.contains(name), file, ": tensor ", name, " belongs to no node of the network");
  }
}

WeightTransfer load_matching_weights(const std::string& file, torch::nn::Module& module) {
  const SafetensorsFile stored(file);
  WeightTransfer transfer;
  const at::NoGradGuard no_grad;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      const bool agrees = stored.has(item.key()) &&
                          at::IntArrayRef(stored.at(item.key()).shape) == item.value().sizes();
      if (agrees) copy_into(item.value(), stored.at(item.key()));
      (agrees ? transfer.copied : transfer.own_start).push_back(item.key());
    }
  }
  NAS_CHECK(!transfer.copied.empty(),
            file,
            ": expected weights of this architecture, found no tensor whose name and shape agree");
  return transfer;
}

}  // namespace nas
