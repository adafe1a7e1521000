// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "nas/network/graph.h"
#include "training/model/step_function.h"

namespace nas {

/// What a graph is lowered to: steps in order, fused where running fuses, over the parameters of
/// the module that made it (which must outlive it).
struct Program {
  struct Step {
    int node = 0;                // whose result this is
    std::vector<int> inputs;     // nodes
    std::vector<int> last_used;  // nodes whose value is not needed after this step
    std::string does;            // names of the nodes it stands for: the same text, the same work
    /// From the values of `inputs` to the result; empty for a graph input.
    StepFunction run;
  };
  Graph graph;
  std::vector<Step> steps;
  int choices = 0;         // open choices, nested ones included
  int merged_choices = 0;  // of these, run as one convolution (Merge::Mixed)
  int merged_pairs = 0;    // convolutions that run as part of the next one (Merge::Exact)
};

/// Number of leading steps in which two programs of one module do the same.
std::size_t shared_steps(const Program& a, const Program& b);

/// Runs steps [begin, end) of `program` on `values`, one slot per node of program.graph. A value is
/// dropped after its last use in `program` unless keep[node].
void run_steps(const Program& program,
               std::size_t begin,
               std::size_t end,
               Values& values,
               const std::vector<char>* keep = nullptr);

}  // namespace nas
