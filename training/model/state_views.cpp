// SPDX-License-Identifier: Apache-2.0
#include "training/model/state_views.h"

namespace nas {

StateViews state_views(const torch::nn::Module& module) {
  StateViews state;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      const at::Tensor t = item.value().detach().to(at::kCPU, at::kFloat).contiguous();
      state.tensors[item.key()] = t;
      state.views[item.key()] = view_floats(
          {t.const_data_ptr<float>(), static_cast<std::size_t>(t.numel())}, t.sizes().vec());
    }
  }
  return state;
}

}  // namespace nas
