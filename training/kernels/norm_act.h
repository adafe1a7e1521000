// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nas::kernels {

/// Activations in channels-last order: [samples, voxels, channels] (a channels_last_3d tensor seen
/// as a flat array).
struct NormActShape {
  std::int64_t samples = 0;   // N
  std::int64_t voxels = 0;    // D * H * W
  std::int64_t channels = 0;  // C
};

/// \throws Error(Shape) for an empty shape.
void check_shape(const NormActShape& shape);

/// The bits of a bfloat16 (at::BFloat16 has the same layout).
using Bf16 = std::uint16_t;

/// Calls body(begin, end) so that the ranges cover [0, count) once: at::parallel_for, or body(0,
/// count).
using ParallelFor = std::function<void(
    std::int64_t count, const std::function<void(std::int64_t begin, std::int64_t end)>& body)>;

/// Instance norm and leaky ReLU in two passes over memory, in place of four and two layout copies.
///
///   z = gamma * (x - mean) / sqrt(var + eps) + beta,   y = z > 0 ? z : slope * z
///
/// mean and var (population) of each sample and channel. slope 1: norm alone; slope 0: ReLU. Values
/// are float32 or bfloat16, all arithmetic float32, sums of slabs combined in float64. The result
/// does not depend on the number of threads or the vector width. y may be x. \param gamma, beta
/// [C], or nullptr for 1 and 0. \param mean, rstd [N, C], written: the backward pass needs them.
/// \throws Error(Shape) for an empty shape.
template <class T>
void norm_act_forward(const T* x,
                      const NormActShape& shape,
                      const float* gamma,
                      const float* beta,
                      float eps,
                      float slope,
                      T* y,
                      float* mean,
                      float* rstd,
                      const ParallelFor& parallel);

/// Gradients of norm_act_forward from its input x; z is recomputed, so y need not be kept. dx may
/// be dy. \param dgamma, dbeta [C], written; nullptr if not wanted.
template <class T>
void norm_act_backward(const T* dy,
                       const T* x,
                       const NormActShape& shape,
                       const float* gamma,
                       const float* beta,
                       float slope,
                       const float* mean,
                       const float* rstd,
                       T* dx,
                       float* dgamma,
                       float* dbeta,
                       const ParallelFor& parallel);

/// The same on the GPU, bit by bit the same whatever the device: sums over fixed slabs, combined in
/// a fixed order, no atomics. Pointers are device memory, `stream` is a cudaStream_t, nothing waits.
/// In a build without CUDA each throws Error(Usage).
namespace cuda {

/// Bytes of `scratch`, aligned to 16. \throws Error(Shape) for an empty shape.
std::size_t norm_act_scratch_bytes(const NormActShape& shape);
template <class T>
void norm_act_forward(const T* x,
                      const NormActShape& shape,
                      const float* gamma,
                      const float* beta,
                      float eps,
                      float slope,
                      T* y,
                      float* mean,
                      float* rstd,
                      void* scratch,
                      void* stream);
template <class T>
void norm_act_backward(const T* dy,
                       const T* x,
                       const NormActShape& shape,
                       const float* gamma,
                       const float* beta,
                       float slope,
                       const float* mean,
                       const float* rstd,
                       T* dx,
                       float* dgamma,
                       float* dbeta,
                       void* scratch,
                       void* stream);

}  // namespace cuda

/// Vector widths that this processor can run: "base", "avx2", "avx512"; the last is used.
std::vector<std::string> norm_act_variants();
/// For tests and benches: forces a variant until the object dies. Not thread-safe.
class NormActVariant {
 public:
  explicit NormActVariant(
      const std::string& name);  // \throws Error(Usage) if it is not among norm_act_variants()
  ~NormActVariant();
  NormActVariant(const NormActVariant&) = delete;
  NormActVariant& operator=(const NormActVariant&) = delete;

 private:
  const void* before_;
};

}  // namespace nas::kernels
