// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "nas/core/error.h"

/// Throws Error(Internal) naming file, line, expression and CUDA's reason unless the call
/// succeeded.
#define NAS_CUDA_CHECK(expression)                      \
  do {                                                  \
    const cudaError_t nas_cuda_status = (expression);   \
    if (nas_cuda_status != cudaSuccess) {               \
      ::nas::fail(::nas::ErrorKind::Internal,           \
                  __FILE__,                             \
                  ":",                                  \
                  __LINE__,                             \
                  ": " #expression ": ",                \
                  cudaGetErrorString(nas_cuda_status)); \
    }                                                   \
  } while (false)
