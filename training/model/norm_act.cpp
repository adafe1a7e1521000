// SPDX-License-Identifier: Apache-2.0
#include "training/model/norm_act.h"

#include <functional>
#include <optional>

#include <ATen/Parallel.h>

#include "training/kernels/kernels.h"
#include "training/kernels/norm_act.h"
#include "training/model/device.h"

namespace nas {
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

/// Scratch memory of the CUDA kernels.
at::Tensor scratch_for(const at::Tensor& x) {
  const auto bytes = kernels::cuda::norm_act_scratch_bytes(norm_shape(x));
  return at::empty({static_cast<std::int64_t>(bytes)}, x.options().dtype(at::kByte));
}

/// norm_act over the NDHWC kernels of the CPU or of CUDA. Keeps the input: the result is recomputed
/// in the backward pass.
struct NormActFunction : torch::autograd::Function<NormActFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context,
                            const at::Tensor& input,
                            const std::optional<at::Tensor>& affine_weight,
                            const std::optional<at::Tensor>& affine_bias,
                            double eps,
                            double slope) {
    const at::Tensor weight = affine_weight.value_or(at::Tensor());
    const at::Tensor bias = affine_bias.value_or(at::Tensor());
    const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast3d);
    const at::Tensor y = at::empty_like(x);
    const at::Tensor mean = at::empty({x.size(0), x.size(1)}, x.options().dtype(at::kFloat)),
                     rstd = at::empty_like(mean);
    with_pointer_type(x, [&](auto pointer) {
      using T = std::remove_pointer_t<decltype(pointer(x))>;
      const auto run = [&](auto forward, auto... place) {
        forward(pointer(x),
                norm_shape(x),
                floats_or_null(weight),
                floats_or_null(bias),
                static_cast<float>(eps),
                static_cast<float>(slope),
                pointer(y),
                mean.data_ptr<float>(),
                rstd.data_ptr<float>(),
                place...);
      };
      if (x.is_cuda()) {
        const c10::DeviceGuard guard(x.device());
        const at::Tensor scratch = scratch_for(x);
        run(kernels::cuda::norm_act_forward<T>, scratch.data_ptr(), current_stream(x.device()));
      } else {
        run(kernels::norm_act_forward<T>, kTorchThreads);
      }
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
    const at::Tensor dy =
        upstream[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast3d);
    const at::Tensor dx = at::empty_like(x);
    at::Tensor dweight, dbias;
    if (weight.defined()) {
      dweight = at::empty_like(weight);
      dbias = at::empty_like(bias);
    }
    with_pointer_type(x, [&](auto pointer) {
      using T = std::remove_pointer_t<decltype(pointer(x))>;
      const auto run = [&](auto backward, auto... place) {
        backward(pointer(dy),
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
                 place...);
      };
      if (x.is_cuda()) {
        const c10::DeviceGuard guard(x.device());
        const at::Tensor scratch = scratch_for(x);
        run(kernels::cuda::norm_act_backward<T>, scratch.data_ptr(), current_stream(x.device()));
      } else {
        run(kernels::norm_act_backward<T>, kTorchThreads);
      }
    });
    return {dx, dweight, dbias, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

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

at::Tensor norm_act(const at::Tensor& x,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    double eps,
                    double slope) {
  const bool own = (x.is_cpu() || (x.is_cuda() && kernels::cuda::compiled())) &&
                   (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
                   (!weight.defined() || weight.scalar_type() == at::kFloat);
  if (!own) return norm_act_composed(x, weight, bias, eps, slope);
  const auto optional = [](const at::Tensor& t) {
    return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt;
  };
  return NormActFunction::apply(x, optional(weight), optional(bias), eps, slope);
}

}  // namespace nas
