// SPDX-License-Identifier: Apache-2.0
#define NAS_NORM_ACT_VARIANT kNormActAvx512
#define NAS_NORM_ACT_NAME "avx512"
#include "training/kernels/norm_act_impl.h"
