// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "training/data/preprocessing.h"
#include "training/model/graph_module.h"

namespace nas {

/// A trained network with what it needs to run: the model folder (network.json,
/// weights.safetensors, preprocessing.json; besides model.onnx).
struct Model {
  GraphModule network{nullptr};
  Preprocessing preprocessing;
  std::optional<bool> mirrored = {};  // whether it was trained with mirrored images; none: unknown
};
/// Each file appears whole; preprocessing.json comes last and names the network and the weights it
/// belongs to.
void save_model(const std::filesystem::path& folder, const Model& model);
/// \throws Error(Input|Io) naming the file that is missing, damaged or does not belong to the
/// others.
Model load_model(const std::filesystem::path& folder);

/// The models that `names` tells, joined by commas (split_paths): model folders, run folders of
/// `voxnas train`, or runs over folds (fold_0, fold_1, ... of RUN: all of them). \throws
/// Error(Input|Io|Usage) also if their labels, channels or axis orders differ.
std::vector<Model> load_models(const std::string& names);
/// Mirrored images at test time help only a network that learned from such. \throws Error(Usage)
/// where one of the models was trained without.
void check_mirrored(const std::vector<Model>& models, const std::string& names);

/// preprocessing.json as text, naming the network of `model`: the metadata that every single-file
/// export carries under the key "preprocessing.json".
inline constexpr const char* kPreprocessingKey = "preprocessing.json";
std::string preprocessing_text(const Model& model);
/// model.onnx with the weights and the preprocessing of `model`.
void write_model_onnx(const Model& model, const std::filesystem::path& file);

}  // namespace nas
