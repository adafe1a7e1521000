// SPDX-License-Identifier: Apache-2.0
#define NAS_NORM_ACT_VARIANT kNormActAvx2
#define NAS_NORM_ACT_NAME "avx2"
#define NAS_NORM_ACT_BYTES 32
#include "training/kernels/norm_act_impl.h"
