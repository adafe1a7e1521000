// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "nas/network/safetensors.h"

namespace nas::test {

inline at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.at(name);
  std::vector<float> values = to_floats(view);
  return torch::from_blob(values.data(), at::IntArrayRef(view.shape), at::kFloat).clone();
}

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

inline at::Tensor random_tensor(at::IntArrayRef shape,
                                std::uint64_t seed,
                                at::ScalarType type = at::kFloat) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::randn(shape, generator, at::kDouble).to(type);
}

}  // namespace nas::test
