// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/network/graph.h"
#include "search_spaces/plan.h"

namespace nas {

/// The graph of a U-Net with nnU-Net's state-dict names: encoder.stages.S.0.convs.I.{conv,norm}
/// (plain), encoder.stem.convs.0... and encoder.stages.S.blocks.I.{conv1,conv2,skip} (residual),
/// decoder.transpconvs.S, decoder.stages.S.convs.I.{conv,norm}, decoder.seg_layers.S. Instance norm
/// (eps 1e-5, affine), leaky ReLU 0.01, convolutions with bias. Outputs finest first ("seg0",
/// "seg1", ...); one output without deep supervision. Source: dynamic-network-architectures
/// (Isensee et al., nnU-Net); checked against its weights and sizes.
Graph make_unet(const UnetArchitecture& architecture);

}  // namespace nas
