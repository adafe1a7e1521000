// SPDX-License-Identifier: Apache-2.0
// Networks, images and the engine of VoxNAS in a program of one's own.
#include <algorithm>
#include <iostream>

#include "nas/imaging/phantom.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/network/graph.h"
#include "nas/report/report.h"
#include "nas/search/run_search.h"
#include "search_spaces/spaces.h"

int main() {
  nas::Graph graph{"outside", {}};
  const int input = graph.add("input", "input", {}, {{"channels", 1}});
  const int conv = graph.add("conv", "conv", {input}, {{"out_channels", 8}, {"kernel", 3}});
  graph.add("output", "output", {conv});
  const nas::Cost cost = nas::total_cost(graph, {16, 16, 16});
  const nas::PhantomCase phantom = nas::make_phantom_case({.size = {12, 16, 12}}, 0);
  const auto& label = phantom.label.voxels;
  std::cout << "VoxNAS " << VERSION << ": " << cost.parameters << " parameters, " << cost.macs
            << " multiply-adds, " << *std::max_element(label.begin(), label.end()) << " organs\n";
  return nas::space_names().empty() ? 1 : 0;
}
