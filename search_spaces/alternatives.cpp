// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/alternatives.h"

#include <algorithm>

#include "nas/core/error.h"

namespace nas {

int add_alternatives(Graph& graph,
                     const std::string& name,
                     const std::vector<int>& inputs,
                     int count,
                     int pick,
                     const std::function<Graph(int)>& alternative) {
  NAS_CHECK_KIND(Internal,
                 pick >= kOpen && pick < count,
                 "choice ",
                 name,
                 ": pick ",
                 pick,
                 " of ",
                 count,
                 " alternatives");
  if (pick == kOpen) {
    std::vector<Graph> alternatives;
    for (int k = 0; k < count; ++k) alternatives.push_back(alternative(k));
    return graph.add_choice(name, inputs, std::move(alternatives));
  }
  Graph chosen = alternative(pick);
  const std::string prefix = alternative_prefix(name, static_cast<std::size_t>(pick));
  std::vector<int> place;
  std::size_t next_input = 0;
  int result = -1;
  for (Node& node : chosen.nodes) {
    if (node.op == "input") {
      place.push_back(inputs.at(next_input++));
      continue;
    }
    for (int& input : node.inputs) input = place[static_cast<std::size_t>(input)];
    if (node.op == "output") {
      result = node.inputs[0];
      place.push_back(-1);
      continue;
    }
    node.name.insert(0, prefix);
    place.push_back(static_cast<int>(graph.nodes.size()));
    graph.nodes.push_back(std::move(node));
  }
  return result;
}

std::size_t through_plane_axis(const Vec3& spacing_mm) {
  return static_cast<std::size_t>(std::ranges::max_element(spacing_mm) - spacing_mm.begin());
}

Extent3 in_plane(Extent3 kernel, std::size_t axis) {
  kernel[axis] = 1;
  return kernel;
}

Extent3 through_plane(const Extent3& kernel, std::size_t axis) {
  Extent3 line{1, 1, 1};
  line[axis] = kernel[axis];
  return line;
}

int add_conv_chain(Graph& graph,
                   const std::string& name,
                   int input,
                   std::int64_t channels,
                   const ConvChain& chain) {
  const std::size_t count = chain.kernels.size();
  std::vector<Extent3> strides(count, Extent3{1, 1, 1});
  for (std::size_t a = 0; a < 3; ++a) {
    const auto along =
        std::ranges::find_if(chain.kernels, [&](const Extent3& kernel) { return kernel[a] > 1; });
    const auto first = along == chain.kernels.end() ? 0 : along - chain.kernels.begin();
    strides[static_cast<std::size_t>(first)][a] = chain.stride[a];
  }
  int node = input;
  for (std::size_t i = 0; i < count; ++i) {
    std::string conv = name + "conv";
    if (count > 1) conv += std::string("_") + static_cast<char>('a' + i);
    node = graph.add("conv",
                     std::move(conv),
                     {node},
                     {{"out_channels", channels},
                      {"kernel", axes(chain.kernels[i])},
                      {"stride", axes(strides[i])},
                      {"dilation", chain.dilation},
                      {"bias", chain.bias && i + 1 == count}});
  }
  return node;
}

}  // namespace nas
