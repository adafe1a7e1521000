// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/model/model_folder.h"

namespace nas {

/// Writes a planned U-Net as an nnU-Net 2.x results folder: plans.json, dataset.json and
/// fold_0/checkpoint_final.pth, which `nnUNetv2_predict_from_modelfolder` reads. The checkpoint
/// holds the weights under all names of nnU-Net's state dict (the decoder names the encoder's once
/// more) and allows mirroring over all axes, or over none where the model was trained without:
/// nnU-Net mirrors unless told --disable_tta, `voxnas predict` only with --mirror. Deep-supervision
/// heads that the network lacks are zero; prediction reads none of them. What a model folder does
/// not know (median shapes, training cases) is left out. \param folder exists. \throws Error(Input) if the network is no planned U-Net, saying where
/// it differs.
void write_nnunet_model(const Model& model, const std::filesystem::path& folder);

struct NnunetImport {
  std::vector<int> folds;  // those found in the folder, ascending
  std::vector<Model> models;
  std::string configuration, trainer;
};
/// Reads a results folder of nnU-Net 2.2 and later (TRAINER__PLANS__CONFIGURATION with plans.json,
/// dataset.json, fold_k/`checkpoint`): a 3D plain or residual-encoder U-Net, not a cascade, of
/// classes or regions. No code in the checkpoint is run (TorchFile). \throws Error(Input|Io) naming
/// file, key or tensor, what was expected and found.
NnunetImport read_nnunet_folder(const std::filesystem::path& folder,
                                const std::string& checkpoint = "checkpoint_final.pth");

}  // namespace nas
