// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/reference_networks/reference_networks.h"

#include <algorithm>

#include "search_spaces/c2fnas/c2fnas.h"
#include "search_spaces/vnas/vnas.h"

namespace nas {

Graph make_c2fnas_panc(const NetworkIo& io) {
  return make_c2fnas(c2fnas_panc(io.in_channels, io.classes));
}

Graph make_vnas_network(const NetworkIo& io, const std::string& code) {
  VnasNetwork network;
  network.in_channels = io.in_channels;
  network.classes = io.classes;
  network.code = named_vnas_code(code);
  network.name = "vnas " + to_text(network.code);
  return make_vnas(network);
}

namespace {

constexpr Extent3 kCube96{96, 96, 96};
const NetworkIo kSlides{4, 4, kCube96};  // the slides compare networks on 4 channels, 4 classes
const NetworkIo kOneChannel{1, 3, kCube96};

PublishedSize slides(double parameters, double macs, bool reproducible, std::string note = {}) {
  return {parameters,
          macs,
          {kSlides.in_channels, kSlides.patch},
          kSlides.classes,
          "slides on V-NAS and C2FNAS, model comparison",
          reproducible,
          std::move(note)};
}

/// The C2FNAS paper's table; we know it from memory, one channel and three classes are our reading.
PublishedSize paper(double parameters, double macs, bool reproducible, std::string note = {}) {
  return {parameters,
          macs,
          {kOneChannel.in_channels, kOneChannel.patch},
          kOneChannel.classes,
          "C2FNAS (CVPR 2020), model comparison, as remembered",
          reproducible,
          std::move(note)};
}

std::vector<ReferenceNetwork> make_table() {
  std::vector<ReferenceNetwork> table;
  table.push_back({.name = "unet3d",
                   .title = "3D U-Net",
                   .source = "Cicek et al., MICCAI 2016, with parameter-free enlargement "
                             "(wolny/pytorch-3dunet, f_maps 64)",
                   .defaults = kSlides,
                   .published = {slides(16.32e6, 802.9e9, true)},
                   .make = [](const NetworkIo& io) { return make_unet3d(io, false); }});
  table.push_back({.name = "unet3d-deconv",
                   .title = "3D U-Net, transposed convolutions",
                   .source = "Cicek et al., MICCAI 2016",
                   .defaults = kOneChannel,
                   .published = {paper(19.07e6, 825.30e9, true)},
                   .make = [](const NetworkIo& io) { return make_unet3d(io, true); }});
  table.push_back({.name = "v-net",
                   .title = "V-Net",
                   .source = "Milletari et al., 3DV 2016",
                   .defaults = kSlides,
                   .published = {slides(45.61e6, 322.5e9, true)},
                   .make = make_vnet});
  table.push_back({.name = "ah-net",
                   .title = "AH-Net, trilinear",
                   .source = "Liu et al., MICCAI 2018",
                   .defaults = kSlides,
                   .published = {slides(27.11e6, 29.5e9, true)},
                   .make = make_ahnet});
  table.push_back({.name = "attention-unet",
                   .title = "Attention U-Net",
                   .source = "Oktay et al., MIDL 2018, as LeeJunHyun/Image_Segmentation reads it",
                   .defaults = kOneChannel,
                   .published = {paper(103.88e6, 1162.75e9, true)},
                   .make = make_attention_unet});
  table.push_back(
      {.name = "resdsn",
       .title = "ResDSN-like",
       .source = "Zhu et al., 3DV 2018; widths are ours",
       .defaults = kOneChannel,
       .published = {paper(10.03e6, 192.07e9, false, "the paper's text does not give the widths")},
       .make = make_resdsn});
  table.push_back({.name = "voxresnet",
                   .title = "VoxResNet",
                   .source = "Chen et al., NeuroImage 2018",
                   .defaults = kOneChannel,
                   .published = {paper(6.92e6,
                                       173.02e9,
                                       false,
                                       "the VoxResNet paper's own widths give less; which variant "
                                       "was counted is not said")},
                   .make = make_voxresnet});
  table.push_back(
      {.name = "nnunet",
       .title = "nnU-Net",
       .source = "Isensee et al., Nature Methods 2021",
       .defaults = kSlides,
       .published = {slides(10.36e6,
                            202.25e9,
                            false,
                            "no nnU-Net setting has both figures: 32 channels and five reductions "
                            "give the multiply-adds with three times the parameters")},
       .make = [](const NetworkIo& io) { return make_nnunet(io, false); }});
  table.push_back({.name = "nnunet-residual",
                   .title = "nnU-Net, residual encoder",
                   .source = "Isensee et al., MICCAI 2024",
                   .defaults = kSlides,
                   .published = {},
                   .make = [](const NetworkIo& io) { return make_nnunet(io, true); }});
  table.push_back(
      {.name = "c2fnas-panc",
       .title = "C2FNAS-Panc",
       .source = "Yu et al., CVPR 2020; stem and head are our reading",
       .defaults = kOneChannel,
       .published =
           {paper(17.02e6,
                  150.78e9,
                  false,
                  "stem and head are not published in full; our reading is 0.3 % larger"),
            slides(3.91e6,
                   184.8e9,
                   false,
                   "an earlier network of the six-operation space, whose layout is not published")},
       .make = make_c2fnas_panc});
  const auto vnas = [&](const char* name, const char* title, Graph (*make)(const NetworkIo&)) {
    table.push_back({.name = name,
                     .title = title,
                     .source = "Zhu et al., 3DV 2019; widths of a public re-implementation",
                     .defaults = kOneChannel,
                     .published = {},
                     .make = make});
  };
  vnas("vnas:2d", "V-NAS, all 2D", [](const NetworkIo& io) { return make_vnas_network(io, "2d"); });
  vnas("vnas:mix", "V-NAS baseline, 2D encoder and P3D decoder", [](const NetworkIo& io) {
    return make_vnas_network(io, "mix");
  });
  vnas("vnas:3d", "V-NAS, all 3D", [](const NetworkIo& io) { return make_vnas_network(io, "3d"); });
  vnas("vnas:msd-pancreas", "V-NAS, found on MSD pancreas", [](const NetworkIo& io) {
    return make_vnas_network(io, "msd-pancreas");
  });
  table.push_back(
      {.name = "dints",
       .title = "DiNTS",
       .source = "He et al., CVPR 2021, published codes",
       .defaults = kOneChannel,
       .published = {},
       .make = [](const NetworkIo& io) { return make_dints(io, published_dints_code()); }});
  table.push_back({.name = "basic-unet",
                   .title = "BasicUNet",
                   .source = "MONAI BasicUNet, features 32 to 512 (DeepGrow 3D)",
                   .defaults = {1, 2, kCube96},
                   .published = {},
                   .make = [](const NetworkIo& io) {
                     return make_basic_unet(io, {32, 64, 128, 256, 512, 32});
                   }});
  table.push_back({.name = "basic-unet-16",
                   .title = "BasicUNet, small",
                   .source = "MONAI BasicUNet, features 16 to 256",
                   .defaults = {1, 2, kCube96},
                   .published = {},
                   .make = [](const NetworkIo& io) {
                     return make_basic_unet(io, {16, 32, 64, 128, 256, 16});
                   }});
  table.push_back({.name = "deepmedic",
                   .title = "DeepMedic",
                   .source = "Kamnitsas et al., MedIA 2017, two paths",
                   .defaults = {1, 2, {69, 69, 69}},
                   .published = {},
                   .make = make_deepmedic});
  return table;
}

}  // namespace

const std::vector<ReferenceNetwork>& reference_networks() {
  static const std::vector<ReferenceNetwork> table = make_table();
  return table;
}

const ReferenceNetwork* find_reference_network(std::string_view name) {
  const auto& table = reference_networks();
  const auto found = std::ranges::find(table, name, &ReferenceNetwork::name);
  return found == table.end() ? nullptr : &*found;
}

std::vector<std::string> reference_network_names() {
  std::vector<std::string> names;
  for (const ReferenceNetwork& row : reference_networks()) names.push_back(row.name);
  return names;
}

}  // namespace nas
