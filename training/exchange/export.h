// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/model/model_folder.h"

namespace nas {

/// A form in which a trained model leaves the house.
struct ExportFormat {
  std::string name;    // of `voxnas export --to`
  std::string writes;  // one line: what OUT will be
  std::string suffix;  // of OUT's default name behind the model's: ".onnx", "-pytorch"
  bool folder = false;
  /// Writes all of it to `out`, which does not exist yet (a folder: exists and is empty).
  void (*write)(const Model& model, const std::filesystem::path& out) = nullptr;
};

/// The table, in the order of the help text.
const std::vector<ExportFormat>& export_formats();
/// \throws Error(Usage) with the nearest known name.
const ExportFormat& export_format(const std::string& name);

/// Reads the model folder and writes it in another form; OUT appears whole by rename.
/// \param out empty: the model folder's name with the format's suffix, in the working folder.
/// \returns where it is. \throws Error(Usage) on an unknown format or if `out` exists, Error(Input)
/// on an incomplete model folder or a network that the format cannot express, Error(Io).
std::filesystem::path export_model(const std::filesystem::path& model_folder,
                                   const std::string& format,
                                   std::filesystem::path out = {});

}  // namespace nas
