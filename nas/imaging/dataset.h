// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/label_scheme.h"
#include "nas/imaging/orientation.h"
#include "nas/imaging/splits.h"
#include "nas/imaging/volume.h"

namespace nas {

/// One case of a data set: its files, absolute.
struct CaseFiles {
  std::string id;                             // "hippocampus_001"
  std::vector<std::filesystem::path> images;  // one per channel, or one 4D file with all channels
  std::filesystem::path label;                // empty for test cases
};

/// A data set folder, as found on disk. Layouts: MSD (dataset.json with "training") and nnU-Net v2
/// raw (dataset.json with "channel_names"), recognised by themselves.
struct DataSet {
  std::filesystem::path folder;
  std::string name;                        // "Task04_Hippocampus"
  std::string layout;                      // "msd" or "nnunet"
  std::vector<std::string> channel_names;  // per channel: "MRI", "CT", "FLAIR", ...
  LabelScheme labels;                      // what the values of its label files mean
  std::vector<CaseFiles> training;         // sorted by id
  std::vector<CaseFiles> test;             // sorted by id
  std::vector<Split> splits;  // of splits.json / splits_final.json, else nnU-Net's five folds
  std::string splits_source;  // file name, or "nnU-Net's 5-fold rule"
  std::string orientation;    // axis codes that cases are read in; "": each as its image is stored
  /// Files of a case whose headers disagree about spacing or place are taken voxel by voxel.
  bool accept_misaligned = false;
  const CaseFiles& find(const std::string& id) const;  // \throws Error(Input)
};

/// The names that a prediction of this case may have: its id, the label's and the image's (without
/// channel number), each once.
std::vector<std::string> prediction_names(const CaseFiles& files);

/// \throws Error(Input|Io) naming the file, the key, what was expected and what was found. Reads no
/// image.
DataSet open_data_set(const std::filesystem::path& folder);
/// The same from the content of a dataset.json that would lie in `folder`.
/// \param label_order names of "labels" in the order of the file: it numbers regions.
DataSet data_set_from_json(const Json& json,
                           const std::filesystem::path& folder,
                           const std::vector<std::string>& label_order = {});

/// The orientation for all cases: `asked`, or "" for the commonest of the training images. Reads
/// headers only. \throws Error(Input|Io) naming the file, Error(Usage) if `asked` is none.
OrientationChoice choose_orientation(const DataSet& data, const std::string& asked);
/// Sets `data.orientation` to that choice; says so unless all cases are stored that way.
void use_orientation(DataSet& data, const std::string& asked);

/// All channels of a case as one image in the orientation of the data set; channels stored in
/// another axis order than the first are turned onto it. Its files are checked as doctor does.
/// \throws Error(Input) with the first fatal finding's sentence (case_headers.h): damaged files,
/// other grids, NaN, no contrast.
Image read_case_image(const DataSet& data, const CaseFiles& files);
/// Labels of a case, checked to be integers in [0, labels.values()), turned as its image is; the
/// same.
LabelMap read_case_label(const DataSet& data, const CaseFiles& files);

/// nnU-Net's dataset.json content for this data set (channel_names, labels, regions_class_order,
/// numTraining, file_ending); regions in their order.
OrderedJson nnunet_dataset_json(const DataSet& data);

}  // namespace nas
