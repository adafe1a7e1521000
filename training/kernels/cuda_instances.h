// SPDX-License-Identifier: Apache-2.0
#pragma once

// The number types of the launchers, for the kernels and for the stub of a build without CUDA.

#include "training/kernels/dice_loss.h"
#include "training/kernels/norm_act.h"

#define NAS_NORM_ACT_INSTANCES(T)                         \
  template void norm_act_forward<T>(const T*,             \
                                    const NormActShape&,  \
                                    const float*,         \
                                    const float*,         \
                                    float,                \
                                    float,                \
                                    T*,                   \
                                    float*,               \
                                    float*,               \
                                    void*,                \
                                    void*);               \
  template void norm_act_backward<T>(const T*,            \
                                     const T*,            \
                                     const NormActShape&, \
                                     const float*,        \
                                     const float*,        \
                                     float,               \
                                     const float*,        \
                                     const float*,        \
                                     T*,                  \
                                     float*,              \
                                     float*,              \
                                     void*,               \
                                     void*)

#define NAS_DICE_LOSS_INSTANCES(T)                                                             \
  template void dice_ce_sums<T>(                                                               \
      const T*, const std::int16_t*, const LogitsShape&, float, double*, void*, void*);        \
  template void dice_ce_gradient<T>(const T*,                                                  \
                                    const std::int16_t*,                                       \
                                    const LogitsShape&,                                        \
                                    float,                                                     \
                                    const double*,                                             \
                                    const double*,                                             \
                                    const double*,                                             \
                                    const float*,                                              \
                                    T*,                                                        \
                                    void*);                                                    \
  template void dice_bce_sums<T>(                                                              \
      const T*, const std::uint8_t*, std::int64_t, const LogitsShape&, double*, void*, void*); \
  template void dice_bce_gradient<T>(const T*,                                                 \
                                     const std::uint8_t*,                                      \
                                     std::int64_t,                                             \
                                     const LogitsShape&,                                       \
                                     const double*,                                            \
                                     const double*,                                            \
                                     const double*,                                            \
                                     const float*,                                             \
                                     T*,                                                       \
                                     void*)
