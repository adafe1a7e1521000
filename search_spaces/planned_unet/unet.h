// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nas/network/graph.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// A convolution (padding keeps the size), instance norm and, if wanted, leaky ReLU: nnU-Net's
/// ConvDropoutNormReLU, what its U-Nets are made of.
struct UnetBlock {
  std::string name;
  int input = -1;  // node
  std::int64_t in_channels = 0, channels = 0;
  Extent3 kernel{3, 3, 3}, stride{1, 1, 1};
  bool activation = true, bias = true;
};
/// Writes a block and returns the node of its result.
using BlockWriter = std::function<int(Graph&, const UnetBlock&)>;
/// Nodes "<name>.conv", "<name>.norm", "<name>.nonlin".
int add_unet_block(Graph& graph, const UnetBlock& block);
/// The block's second half: nodes "<prefix>norm", "<prefix>nonlin".
int add_norm_act(Graph& graph, const std::string& prefix, int input, bool activation);

/// Sets the features of the first stage, those of the others in proportion, in multiples of 4.
void set_first_features(UnetArchitecture& architecture, std::int64_t first);
/// The planned features of the first stage and these factors of them in multiples of 4, each value
/// once.
std::vector<std::int64_t> feature_choices(std::int64_t planned, const std::vector<double>& factors);

/// The graph of a U-Net with nnU-Net's state-dict names: encoder.stages.S.0.convs.I.{conv,norm}
/// (plain), encoder.stem.convs.0... and encoder.stages.S.blocks.I.{conv1,conv2,skip} (residual),
/// decoder.transpconvs.S, decoder.stages.S.convs.I.{conv,norm}, decoder.seg_layers.S. Instance norm
/// (eps 1e-5, affine), leaky ReLU 0.01, convolutions with bias. Outputs finest first ("seg0",
/// "seg1", ...); one output without deep supervision. Source: dynamic-network-architectures
/// (Isensee et al., nnU-Net); checked against its weights and sizes. `write` may write its blocks
/// in another way.
Graph make_unet(const UnetArchitecture& architecture, const BlockWriter& write = add_unet_block);

/// The architecture whose `make_unet` is this graph (all outputs, or the finest only). \throws
/// Error(Input) saying at which node the network differs from a planned U-Net.
UnetArchitecture unet_architecture(const Graph& graph);

}  // namespace nas
