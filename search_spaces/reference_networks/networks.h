// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/network/graph.h"

namespace nas {

/// What a fixed network has to be adapted to.
struct NetworkIo {
  std::int64_t in_channels = 1;
  std::int64_t classes = 2;   // output channels, background included
  Extent3 patch{96, 96, 96};  // voxels; only networks whose layers depend on it look at it
};

// Convolutions in front of a norm have no bias unless said otherwise. Sizes are those of the cited
// sources; "ours" marks what they leave open or what we do otherwise.

/// 3D U-Net: 4 levels, two 3x3x3 convolutions each (32 -> 64 first, doubling), batch norm, ReLU,
/// max-pooling; a 1x1x1 head. Source: Cicek et al., MICCAI 2016, arXiv:1606.06650.
/// \param deconvolution true: 2x2x2 transposed convolutions between the levels, as in the paper;
/// false: nearest-neighbour enlargement without parameters, as in wolny/pytorch-3dunet with f_maps
/// 64. That code normalises groups of channels in front of a convolution; batch norm behind it is
/// the paper's and has as many parameters up to the 0.001 M printed. Patch: multiples of 8.
Graph make_unet3d(const NetworkIo& io, bool deconvolution);

/// V-Net: residual stages of 5x5x5 convolutions, 16 to 256 channels, ELU, batch norm. Source:
/// Milletari et al., 3DV 2016, arXiv:1606.04797; the layers as MONAI's VNet has them, without its
/// dropout. The image is repeated to 16 channels for the first sum; a number of channels that does
/// not divide 16 is repeated and cut off (ours). Patch: multiples of 16.
Graph make_vnet(const NetworkIo& io);

/// AH-Net with trilinear enlargement: a ResNet-50 of in-plane convolutions, a dense decoder of
/// split in-plane and through-plane convolutions, pyramid pooling. Source: Liu et al., MICCAI 2018,
/// arXiv:1711.08580; the layers as MONAI's AHNet has them. Axis 0 (D) is the one across planes,
/// MONAI's last. Ours: a pyramid level exists where its window (16, 32, 64, 128 voxels of the
/// patch, in-plane) divides the patch; enlargement does not align corners; the 1x1x1 convolutions
/// of the pyramid are not padded (MONAI pads them by a voxel). Patch: multiples of 32.
Graph make_ahnet(const NetworkIo& io);

/// Attention U-Net: 64 to 1024 channels, 5 levels, additive attention gates on all skips. Source:
/// Oktay et al., MIDL 2018, arXiv:1804.03999. The paper leaves widths and the gates' resolution
/// open; this is LeeJunHyun/Image_Segmentation's reading in 3D (gates at the resolution of the
/// skip, half its channels inside, convolutions with bias), the one that has the published size.
/// Patch: multiples of 16.
Graph make_attention_unet(const NetworkIo& io);

/// VoxResNet: 32 channels at full resolution, 64 below, three strided convolutions, two residual
/// modules (norm, ReLU, convolution, twice) behind each; four classifiers, one per resolution,
/// enlarged by transposed convolutions and summed; each is an output too (deep supervision).
/// Source: Chen et al., NeuroImage 2018, arXiv:1608.05895. Ours: transposed kernels as large as
/// their stride, straight to the classes. Patch: multiples of 8.
Graph make_voxresnet(const NetworkIo& io);

/// A network like ResDSN: encoder and decoder of 3x3x3 convolutions with batch norm and ReLU,
/// max-pooling, transposed convolutions, skips that are summed, two auxiliary classifiers. Source:
/// Zhu et al., 3DV 2018, arXiv:1712.00201. Ours, because the paper's text does not fix them: widths
/// 32 to 256 on four levels, two convolutions a level, 2x2x2 transposed kernels. Patch: multiples
/// of 8.
Graph make_resdsn(const NetworkIo& io);

/// nnU-Net's U-Net for a large isotropic patch: 6 stages of 32 to 320 channels, deep supervision.
/// \param residual the residual encoder (1, 3, 4, 6, 6, 6 blocks) instead of two convolutions a
/// stage. Source: Isensee et al., Nature Methods 2021, and MICCAI 2024. `voxnas plan` makes the one
/// for a data set. Patch: multiples of 32.
Graph make_nnunet(const NetworkIo& io, bool residual);

/// MONAI's BasicUNet: five levels of two 3x3x3 convolutions (bias, instance norm, leaky ReLU 0.1),
/// 2x2x2 transposed convolutions that halve the channels (the last one keeps them).
/// \param features channels of the five levels, finest first, and of the last decoder level.
/// Source: Falk et al., Nature Methods 2019, in MONAI's reading. Patch: multiples of 16.
Graph make_basic_unet(const NetworkIo& io, const std::vector<std::int64_t>& features);

/// What MONAI's UNet takes; defaults are MONAI's.
struct MonaiUnetOptions {
  std::vector<std::int64_t> channels;                // of the levels, finest first
  std::vector<std::int64_t> strides;                 // between the levels
  std::int64_t num_res_units = 0;                    // convolutions of a residual unit; 0: none
  std::int64_t kernel_size = 3, up_kernel_size = 3;  // odd
  std::string norm = "instance_norm";                // or "batch_norm", "" for none
  bool affine = false;                               // of instance norm
  std::string activation = "prelu";
  double dropout = 0;
  bool bias = true;
};

/// MONAI's UNet: strided convolutions down, transposed ones up, skips that are concatenated, with
/// residual units if wanted; parameters have MONAI's names. Source: Kerfoot et al., STACOM 2018, in
/// MONAI's `UNet`. Patch: multiples of the product of the strides. 	hrows Error(Input).
Graph make_monai_unet(const NetworkIo& io, const MonaiUnetOptions& options);

/// DeepMedic: eight 3x3x3 convolutions without padding on the image, the same on the image reduced
/// by 3, joined by three layers of 250, 250 and `classes` channels. Source: Kamnitsas et al., MedIA
/// 2017, and deepmedic's example configuration. A patch of n voxels (a multiple of 3) gives n - 48:
/// 69 for the 37-voxel segment that the paper trains on, with 21 voxels of result; the context of
/// the reduced path is part of the patch. Ours: the image is reduced by averaging, the first joined
/// layer is padded with zeros (deepmedic mirrors), pre-activation order in both paths.
Graph make_deepmedic(const NetworkIo& io);

/// C2FNAS-Panc and V-NAS networks, whose graphs c2fnas/c2fnas.h and vnas/vnas.h write.
/// \param code a name or 21 digits (named_vnas_code).
Graph make_c2fnas_panc(const NetworkIo& io);
Graph make_vnas_network(const NetworkIo& io, const std::string& code);

/// The codes of a searched DiNTS network, as its authors' arch_code files hold them.
struct DintsCode {
  std::vector<std::vector<int>> paths;       // arch_code_a: [blocks][10], 1 where a path is active
  std::vector<std::vector<int>> operations;  // arch_code_c: [blocks][10], 0 to 4
  std::vector<std::vector<int>> nodes;       // node_a: [blocks + 1][4], 1 where a node is active
  bool operator==(const DintsCode&) const = default;
};

/// The architecture of the CVPR 2021 paper (arch_code_cvpr.pth): 12 blocks on 4 depths.
DintsCode published_dints_code();
/// From {"arch_code_a": ..., "arch_code_c": ..., "node_a": ...}; each row a list of numbers.
/// \throws Error(Input) naming `where`, the key, what was expected and found.
DintsCode dints_code_from_json(const Json& value, const std::string& where);

/// DiNTS: multi-path cells on four depths (1/2 to 1/16, 64 to 512 channels). Path p of a block goes
/// from depth {0,1,0,1,2,1,2,3,2,3}[p] to {0,0,1,1,1,2,2,2,3,3}[p]; operations 0 skip, 1 3x3x3, 2
/// to 4 a plane of 3x3 and a line of 3 in axes xy-z, xz-y, yz-x. Source: He et al., CVPR 2021,
/// arXiv:2103.15954, and MONAI's DiNTS. Ours: enlargement does not align corners. Only cells
/// that reach the output are built, but all four stems, as MONAI has them. Patch: multiples of 16.
/// \throws Error(Input) on codes that do not fit together.
Graph make_dints(const NetworkIo& io, const DintsCode& code);

}  // namespace nas
