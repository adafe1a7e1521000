// SPDX-License-Identifier: Apache-2.0
#define NAS_NORM_ACT_VARIANT kNormActAvx512
#define NAS_NORM_ACT_NAME "avx512"
#define NAS_NORM_ACT_BYTES 64
#include "training/kernels/norm_act_impl.h"
