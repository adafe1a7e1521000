// SPDX-License-Identifier: Apache-2.0
#include "training/model/program.h"

#include <algorithm>

namespace nas {

void run_steps(const Program& program,
               std::size_t begin,
               std::size_t end,
               Values& values,
               const std::vector<char>* keep) {
  Values arguments;
  for (std::size_t s = begin; s < end; ++s) {
    const Program::Step& step = program.steps[s];
    if (!step.run) continue;  // an input: given
    arguments.clear();
    for (const int i : step.inputs) arguments.push_back(values[static_cast<std::size_t>(i)]);
    for (const int i : step.last_used) {
      if (!keep || !(*keep)[static_cast<std::size_t>(i)]) {
        values[static_cast<std::size_t>(i)] = at::Tensor();
      }
    }
    values[static_cast<std::size_t>(step.node)] = step.run(arguments);
  }
}

std::size_t shared_steps(const Program& a, const Program& b) {
  const std::size_t most = std::min(a.steps.size(), b.steps.size());
  for (std::size_t s = 0; s < most; ++s) {
    const Program::Step &x = a.steps[s], &y = b.steps[s];
    if (x.node != y.node || x.inputs != y.inputs || x.does != y.does) return s;
  }
  return most;
}

}  // namespace nas
