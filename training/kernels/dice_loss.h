// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "training/kernels/norm_act.h"

namespace nas::kernels {

/// Logits [N, K, V] of a loss, V = D * H * W: one stride walks the voxels and one the classes
/// (NCDHW: 1 and V, NDHWC: K and 1).
struct LogitsShape {
  std::int64_t samples = 0, classes = 0, voxels = 0;
  bool channels_last = false;

  std::int64_t class_stride() const { return channels_last ? 1 : voxels; }
  std::int64_t voxel_stride() const { return channels_last ? classes : 1; }
};

/// The passes of training/fit/losses.h over the voxels, on the GPU: what a loss needs is summed in
/// one pass, its gradient is written in another, and the few numbers between them never leave the
/// device. Sums run over fixed slabs in a fixed order, no atomics. Logits are float32 or bfloat16;
/// arithmetic float32, sums float64. Pointers are device memory, `stream` a cudaStream_t, nothing
/// waits. In a build without CUDA each throws Error(Usage).
namespace cuda {

/// Numbers of a sample in `sums`: K times sum p t, K times sum p, K times sum t, then
/// loss_parts(classes) times the cross-entropy, and as many times the number of voxels that count
/// (add them up).
std::int64_t loss_parts(std::int64_t classes);
inline std::int64_t loss_sums_width(std::int64_t classes) {
  return 3 * classes + 2 * loss_parts(classes);
}
/// Bytes of `scratch`, aligned to 8. \throws Error(Shape) for an empty shape.
std::size_t loss_scratch_bytes(const LogitsShape& shape);

/// Softmax, soft Dice and cross-entropy (focal where gamma > 0) of label maps.
/// \param target [N, V] class ids; a voxel with another value counts nowhere.
/// \param sums [N, loss_sums_width(K)], written.
template <class T>
void dice_ce_sums(const T* logits,
                  const std::int16_t* target,
                  const LogitsShape& shape,
                  float gamma,
                  double* sums,
                  void* scratch,
                  void* stream);
/// With g_k = b_k + a_k t_k: d loss / d z_j = p_j (g_j - sum_k g_k p_k) + ce (p_j - t_j) (focal: ce
/// times its factor), times *upstream.
/// \param a, b [N, K]. \param ce, upstream one number each. \param gradient as logits.
template <class T>
void dice_ce_gradient(const T* logits,
                      const std::int16_t* target,
                      const LogitsShape& shape,
                      float gamma,
                      const double* a,
                      const double* b,
                      const double* ce,
                      const float* upstream,
                      T* gradient,
                      void* stream);

/// Sigmoid, soft Dice and binary cross-entropy of regions.
/// \param target [N, channels, V], not 0 in the region; channels is K, or K + 1 where the last one
/// marks ignored voxels.
template <class T>
void dice_bce_sums(const T* logits,
                   const std::uint8_t* target,
                   std::int64_t channels,
                   const LogitsShape& shape,
                   double* sums,
                   void* scratch,
                   void* stream);
/// d loss / d z_k = (p_k (1 - p_k) (b_k + a_k t_k) + ce (p_k - t_k)) *upstream.
template <class T>
void dice_bce_gradient(const T* logits,
                       const std::uint8_t* target,
                       std::int64_t channels,
                       const LogitsShape& shape,
                       const double* a,
                       const double* b,
                       const double* ce,
                       const float* upstream,
                       T* gradient,
                       void* stream);

}  // namespace cuda
}  // namespace nas::kernels
