// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace nas {

/// A case found in a folder of images.
struct FolderCase {
  std::string id;
  std::vector<std::filesystem::path> images;  // one per channel, or one file with all channels
  std::string problem;                        // why it cannot be used, "" if it can
};

struct FolderCases {
  std::vector<FolderCase> cases;   // by id
  std::vector<std::string> notes;  // what was left out or could be read in another way
};

/// The cases of a folder of NIfTI images for a model of `channels` channels; names end in .nii or
/// .nii.gz in either case. Files case_0000, case_0001, ... are the channels of one case (nnU-Net)
/// unless the model says otherwise: with one channel, numbers above 0 belong to the cases' names;
/// with several, files that hold all of them are cases of their own. A link to nothing, an
/// image of another format, two files of one name, or too few channels make a case with a problem. \throws Error(Input) if the folder
/// holds no image.
FolderCases cases_in_folder(const std::filesystem::path& folder, std::size_t channels);

}  // namespace nas
