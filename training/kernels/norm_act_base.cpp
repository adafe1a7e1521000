// SPDX-License-Identifier: Apache-2.0
#define NAS_NORM_ACT_VARIANT kNormActBase
#define NAS_NORM_ACT_NAME "base"
#define NAS_NORM_ACT_BYTES 16
#include "training/kernels/norm_act_impl.h"
