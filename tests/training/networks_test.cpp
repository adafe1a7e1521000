// SPDX-License-Identifier: Apache-2.0
// Every reference network runs forward and backward in LibTorch on a small patch.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "nas/network/output_region.h"
#include "search_spaces/reference_networks/reference_networks.h"
#include "training/fit/losses.h"
#include "training/model/graph_module.h"

namespace nas {
namespace {

/// The smallest patches that the networks take and whose coarsest map still has statistics.
Extent3 small_patch(const std::string& name) {
  if (name == "deepmedic") return {51, 51, 54};
  if (name == "ah-net") return {32, 32, 32};
  if (name.starts_with("vnas")) return {64, 64, 64};  // strides of 32 in all
  if (name.starts_with("nnunet")) return {32, 32, 64};
  return {16, 16, 32};
}

TEST(NetworksTrain, ForwardHasTheInferredShapesAndBackwardFiniteGradients) {
  for (const ReferenceNetwork& row : reference_networks()) {
    SCOPED_TRACE(row.name);
    const NetworkIo io{2, 3, small_patch(row.name)};
    const Graph graph = row.make(io);
    const std::vector<TensorShape> shapes = infer_shapes(graph, io.patch);
    GraphModule network(graph, 1);
    std::int64_t parameters = 0;
    for (const at::Tensor& p : network->parameters()) parameters += p.numel();
    EXPECT_EQ(parameters, total_cost(graph, io.patch).parameters);

    network->train();
    torch::manual_seed(5);
    const auto [d, h, w] = io.patch;
    const at::Tensor input = torch::randn({1, 2, d, h, w});
    const std::vector<at::Tensor> outputs = network->forward(input);
    const std::vector<int> nodes = graph.output_nodes();
    ASSERT_EQ(outputs.size(), nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const TensorShape& shape = shapes[static_cast<std::size_t>(nodes[i])];
      const std::vector<std::int64_t> expected{
          1, shape.channels, shape.space[0], shape.space[1], shape.space[2]};
      EXPECT_EQ(outputs[i].sizes(), at::IntArrayRef(expected));
    }

    const at::Tensor loss = segmentation_loss(outputs, at::randint(0, 3, {1, d, h, w}, at::kShort));
    EXPECT_TRUE(std::isfinite(loss.item<double>()));
    loss.backward();
    std::int64_t reached = 0, alive = 0;
    for (const at::Tensor& p : network->parameters()) {
      if (!p.grad().defined()) continue;  // biases in front of norms, the coarsest head
      const double size = p.grad().abs().sum().item<double>();
      EXPECT_TRUE(std::isfinite(size));
      ++reached;
      alive += size > 0;
    }
    const auto count = static_cast<std::int64_t>(network->parameters().size());
    EXPECT_GT(reached, count / 2);
    EXPECT_GT(alive, reached * 9 / 10);
  }
}

}  // namespace
}  // namespace nas
