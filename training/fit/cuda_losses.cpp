// SPDX-License-Identifier: Apache-2.0
#include "training/fit/cuda_losses.h"

#include <cstdint>

#include "training/fit/loss_sums.h"
#include "training/kernels/dice_loss.h"
#include "training/kernels/kernels.h"
#include "training/model/device.h"

namespace nas {
namespace {

namespace cuda = kernels::cuda;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Logits as the kernels take them (float or bfloat16, NCDHW or NDHWC dense), and their shape.
struct Dense {
  at::Tensor x;
  kernels::LogitsShape shape;
};
Dense dense(const at::Tensor& logits) {
  at::Tensor x = logits.scalar_type() == at::kBFloat16 ? logits : logits.to(at::kFloat);
  const bool last = !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast3d);
  if (!last) x = x.contiguous();
  return {x, {x.size(0), x.size(1), x.size(2) * x.size(3) * x.size(4), last}};
}

/// Calls f with a null pointer of the kernels' number type.
template <class F>
void with_number(const at::Tensor& x, F&& f) {
  if (x.scalar_type() == at::kFloat) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<kernels::Bf16*>(nullptr));
  }
}

template <bool kRegions>
struct CudaLoss : torch::autograd::Function<CudaLoss<kRegions>> {
  static at::Tensor forward(AutogradContext* context,
                            const at::Tensor& logits,
                            const at::Tensor& target,
                            const DiceCeOptions& options) {
    const auto [x, shape] = dense(logits);
    const c10::DeviceGuard guard(x.device());
    void* const stream = current_stream(x.device());
    const at::Tensor sums = at::empty({shape.samples, cuda::loss_sums_width(shape.classes)},
                                      x.options().dtype(at::kDouble));
    const at::Tensor scratch = at::empty(
        {static_cast<std::int64_t>(cuda::loss_scratch_bytes(shape))}, x.options().dtype(at::kByte));
    with_number(x, [&, &x = x, &shape = shape](auto* number) {
      using T = std::remove_pointer_t<decltype(number)>;
      const T* z = static_cast<const T*>(x.const_data_ptr());
      double* out = sums.data_ptr<double>();
      if constexpr (kRegions) {
        const auto* t = target.const_data_ptr<std::uint8_t>();
        cuda::dice_bce_sums<T>(z, t, target.size(1), shape, out, scratch.data_ptr(), stream);
      } else {
        const auto gamma = static_cast<float>(options.focal_gamma);
        const auto* t = target.const_data_ptr<std::int16_t>();
        cuda::dice_ce_sums<T>(z, t, shape, gamma, out, scratch.data_ptr(), stream);
      }
    });
    const std::int64_t terms =
        kRegions && target.size(1) == shape.classes ? shape.classes : 1;  // with ignored voxels: 1
    const LossOfSums result =
        loss_of_sums(sums_of_columns(sums, shape.classes, cuda::loss_parts(shape.classes)),
                     options,
                     first_of_dice(kRegions, options),
                     terms);
    context->save_for_backward({x, target, result.a, result.b, result.ce_scale});
    context->saved_data["gamma"] = options.focal_gamma;
    context->saved_data["type"] = static_cast<std::int64_t>(logits.scalar_type());
    return result.loss.to(at::kFloat);
  }

  static variable_list backward(AutogradContext* context, const variable_list& upstream) {
    const variable_list saved = context->get_saved_variables();
    const auto [x, shape] = dense(saved[0]);
    const at::Tensor& target = saved[1];
    const c10::DeviceGuard guard(x.device());
    void* const stream = current_stream(x.device());
    const at::Tensor result = at::empty_like(x), up = upstream[0].to(at::kFloat).contiguous();
    const double *a = saved[2].const_data_ptr<double>(), *b = saved[3].const_data_ptr<double>(),
                 *ce = saved[4].const_data_ptr<double>();
    with_number(x, [&, &x = x, &shape = shape](auto* number) {
      using T = std::remove_pointer_t<decltype(number)>;
      const T* z = static_cast<const T*>(x.const_data_ptr());
      T* gradient = static_cast<T*>(result.data_ptr());
      const float* factor = up.const_data_ptr<float>();
      if constexpr (kRegions) {
        const auto* t = target.const_data_ptr<std::uint8_t>();
        cuda::dice_bce_gradient<T>(z, t, target.size(1), shape, a, b, ce, factor, gradient, stream);
      } else {
        const auto gamma = static_cast<float>(context->saved_data["gamma"].toDouble());
        const auto* t = target.const_data_ptr<std::int16_t>();
        cuda::dice_ce_gradient<T>(z, t, shape, gamma, a, b, ce, factor, gradient, stream);
      }
    });
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    return {result.to(type), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool has_cuda_loss(const at::Tensor& logits, const DiceCeOptions& options) {
  return logits.is_cuda() && cuda::compiled() && logits.scalar_type() != at::kDouble &&
         !options.squared;
}

at::Tensor cuda_dice_ce_loss(const at::Tensor& logits,
                             const at::Tensor& target,
                             const DiceCeOptions& options) {
  return CudaLoss<false>::apply(logits, target.to(at::kShort).contiguous(), options);
}

at::Tensor cuda_dice_bce_loss(const at::Tensor& logits,
                              const at::Tensor& target,
                              const DiceCeOptions& options) {
  return CudaLoss<true>::apply(logits, target.to(at::kByte).contiguous(), options);
}

}  // namespace nas
