// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

namespace nas {

/// Instance norm with affine weights (undefined: none), then leaky ReLU (`slope` 1: none, 0: ReLU);
/// statistics in float32. [N, C, D, H, W] in float, bfloat16 or half; the result has the type and
/// memory format of `x`. Float and bfloat16 go as NDHWC through the kernels of
/// training/kernels/norm_act.h (on CUDA where the build has them), others through
/// norm_act_composed (LibTorch's operators).
at::Tensor norm_act(const at::Tensor& x,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    double eps,
                    double slope);
at::Tensor norm_act_composed(const at::Tensor& x,
                             const at::Tensor& weight,
                             const at::Tensor& bias,
                             double eps,
                             double slope);

}  // namespace nas
