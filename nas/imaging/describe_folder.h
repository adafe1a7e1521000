// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>  // FolderDescription holds a Json

#include "nas/core/json.h"

namespace nas {

/// A dataset.json for a folder that has none, from the names and headers of its files.
struct FolderDescription {
  Json dataset;                    // content for dataset.json: nnU-Net v2 raw or MSD form
  std::vector<std::string> words;  // what was understood, a line each; guesses are called so
};

/// Looks for the usual layouts: folders of images and labels (imagesTr and labelsTr, images and
/// labels, ...), one folder per patient, a MONAI data list. Channels are counted in files and
/// headers, label values in the voxels. \throws Error(Input) that says what was looked for and what
/// is in the way.
FolderDescription describe_folder(const std::filesystem::path& folder, int threads = 0);

/// Describes `folder` and writes its dataset.json. \throws Error(Usage) if there is one.
FolderDescription write_dataset_json(const std::filesystem::path& folder, int threads = 0);

}  // namespace nas
