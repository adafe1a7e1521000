// SPDX-License-Identifier: Apache-2.0
#include "nas/core/error.h"
#include "training/kernels/cuda_instances.h"
#include "training/kernels/kernels.h"

// The launchers of a build without CUDA.

namespace nas::kernels::cuda {
namespace {

[[noreturn]] void no_cuda(const char* what) {
  fail(ErrorKind::Usage,
       "kernels::cuda::",
       what,
       ": this build of VoxNAS has no CUDA kernels; configure it where an nvcc is found, or use "
       "--device cpu");
}

}  // namespace

int device_count() { return 0; }
bool compiled() { return false; }
std::size_t stats_scratch_bytes() { return 0; }

void crop_image(
    const float*, const Size3&, std::int64_t, const CropPlace&, const Size3&, float*, Stream) {
  no_cuda("crop_image");
}
void crop_label(
    const std::int16_t*, const Size3&, const CropPlace&, const Size3&, std::int16_t*, Stream) {
  no_cuda("crop_label");
}
void affine_image(
    const float*, const Size3&, std::int64_t, const Affine3&, const Size3&, float*, Stream) {
  no_cuda("affine_image");
}
void affine_label(
    const std::int16_t*, const Size3&, const Affine3&, const Size3&, std::int16_t*, Stream) {
  no_cuda("affine_label");
}
void add_noise(float*, std::int64_t, std::int64_t, float, std::uint64_t, Stream) {
  no_cuda("add_noise");
}
void blur(float*, float*, const Size3&, const BlurTaps*, Stream) { no_cuda("blur"); }
void low_resolution(float*, float*, const Size3&, const LowSize&, Stream) {
  no_cuda("low_resolution");
}
void scale(float*, std::int64_t, float, Stream) { no_cuda("scale"); }
void shift(float*, std::int64_t, float, Stream) { no_cuda("shift"); }
void stats(const float*, std::int64_t, void*, Stats*, Stream) { no_cuda("stats"); }
void contrast(float*, std::int64_t, float, const Stats*, Stream) { no_cuda("contrast"); }
void gamma(float*, std::int64_t, float, bool, const Stats*, Stream) { no_cuda("gamma"); }
void restore(float*, std::int64_t, const Stats*, const Stats*, Stream) { no_cuda("restore"); }
void fill_mean(float*, std::int64_t, const Stats*, Stream) { no_cuda("fill_mean"); }
void* allocate(std::size_t) { no_cuda("allocate"); }
void release(void*) noexcept {}
void copy_to_device(void*, const void*, std::size_t) { no_cuda("copy_to_device"); }
void copy_to_host(void*, const void*, std::size_t) { no_cuda("copy_to_host"); }
void wait(Stream) { no_cuda("wait"); }

std::size_t norm_act_scratch_bytes(const NormActShape&) { no_cuda("norm_act"); }
template <class T>
void norm_act_forward(const T*,
                      const NormActShape&,
                      const float*,
                      const float*,
                      float,
                      float,
                      T*,
                      float*,
                      float*,
                      void*,
                      void*) {
  no_cuda("norm_act");
}
template <class T>
void norm_act_backward(const T*,
                       const T*,
                       const NormActShape&,
                       const float*,
                       const float*,
                       float,
                       const float*,
                       const float*,
                       T*,
                       float*,
                       float*,
                       void*,
                       void*) {
  no_cuda("norm_act");
}

std::int64_t loss_parts(std::int64_t) { no_cuda("dice_loss"); }
std::size_t loss_scratch_bytes(const LogitsShape&) { no_cuda("dice_loss"); }
template <class T>
void dice_ce_sums(const T*, const std::int16_t*, const LogitsShape&, float, double*, void*, void*) {
  no_cuda("dice_ce");
}
template <class T>
void dice_ce_gradient(const T*,
                      const std::int16_t*,
                      const LogitsShape&,
                      float,
                      const double*,
                      const double*,
                      const double*,
                      const float*,
                      T*,
                      void*) {
  no_cuda("dice_ce");
}
template <class T>
void dice_bce_sums(
    const T*, const std::uint8_t*, std::int64_t, const LogitsShape&, double*, void*, void*) {
  no_cuda("dice_bce");
}
template <class T>
void dice_bce_gradient(const T*,
                       const std::uint8_t*,
                       std::int64_t,
                       const LogitsShape&,
                       const double*,
                       const double*,
                       const double*,
                       const float*,
                       T*,
                       void*) {
  no_cuda("dice_bce");
}

NAS_NORM_ACT_INSTANCES(float);
NAS_NORM_ACT_INSTANCES(Bf16);
NAS_DICE_LOSS_INSTANCES(float);
NAS_DICE_LOSS_INSTANCES(Bf16);

}  // namespace nas::kernels::cuda
