// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/orientation.h"
#include "nas/imaging/volume.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// How an image becomes network input, and a result comes back: all of the plan that prediction
/// needs. Written to `preprocessing.json` of a model folder.
struct Preprocessing {
  std::string configuration;  // "3d_fullres"
  /// Axis codes ("RAS") that images are turned to; D H W below are those axes. "": nothing is
  /// known, images are used as they are stored.
  std::string orientation;
  std::array<int, 3> transpose_forward{0, 1, 2};
  std::array<int, 3> transpose_backward{0, 1, 2};
  Vec3 spacing{1, 1, 1};                   // mm, transposed order
  Extent3 patch{0, 0, 0};                  // voxels, transposed order
  std::vector<std::string> normalization;  // per channel
  std::vector<bool> use_mask_for_norm;
  std::vector<IntensityProperties> intensity;  // per channel
  std::vector<std::string> channel_names;      // per channel
  LabelScheme labels;                          // what the outputs stand for
  bool operator==(const Preprocessing&) const = default;
};

Preprocessing make_preprocessing(const Plan& plan,
                                 const std::string& configuration,
                                 const std::vector<std::string>& channel_names,
                                 const LabelScheme& labels);
Json to_json(const Preprocessing& preprocessing);
Preprocessing preprocessing_from_json(const Json& value, const std::string& where);

/// From an image's own axes to the network's: to the orientation, then transposed.
Turn turn_to_network(const Geometry& image, const Preprocessing& preprocessing);

/// A case as the network sees it (turned, cropped to non-zero, resampled, normalised) and the way
/// back.
struct PreprocessedCase {
  Image image;  // [C, D, H, W]
  LabelMap
      label;  // [1, D, H, W]; empty voxels when there is no label. -1 outside the non-zero mask
  Geometry original;            // of the image
  Turn turn;                    // from the image's axes to the network's
  Extent3 crop_begin{0, 0, 0};  // in the turned original grid
  Extent3 crop_shape{0, 0, 0};  // in the turned original grid, before resampling
  /// mm of the turned original grid.
  Vec3 original_spacing() const { return turned_values(original.spacing_mm, turn); }
};
/// nnU-Net's order: turn, crop to non-zero, normalise, resample. \param threads 0: all
/// processors. \throws Error(Input) on another number of channels or on NaN or infinity;
/// Error(Shape) if the label has another grid.
PreprocessedCase preprocess_case(const Image& image,
                                 const LabelMap* label,
                                 const Preprocessing& preprocessing,
                                 int threads = 1);
/// Shape of the network input for an image of this geometry if nothing is cropped.
Extent3 preprocessed_shape(const Geometry& geometry, const Preprocessing& preprocessing);

/// One cached case: views into a memory-mapped file.
struct CachedCase {
  std::string id;
  Extent3 shape{0, 0, 0};  // voxels, D H W, transposed order
  std::int64_t channels = 1;
  const float* image = nullptr;  // [C, D, H, W]
  const std::int16_t* label =
      nullptr;  // [D, H, W]; in [0, labels.values()), as nnU-Net trains: outside is background
  /// What the labels mean; null: classes.
  std::shared_ptr<const LabelScheme> scheme = nullptr;
  /// Up to 10,000 uniformly drawn voxel indices (d * H * W + h * W + w) per class or region, in the
  /// order of its names; empty for absent ones. The first list, of the background, is empty too,
  /// unless there is an ignored label: then it holds voxels of all other labels.
  std::vector<std::vector<std::int64_t>> class_locations;
};

/// The preprocessed training cases, memory-mapped, built once per content hash and plan.
class CaseCache {
 public:
  const std::vector<CachedCase>& cases() const { return cases_; }
  const CachedCase& find(const std::string& id) const;  // \throws Error(Input)
  std::int64_t channels() const { return channels_; }
  const LabelScheme& labels() const { return *labels_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::string key() const { return key_; }
  /// content_hashes of the data set that was opened.
  const std::map<std::string, std::vector<std::string>>& contents() const { return contents_; }

 private:
  friend CaseCache open_case_cache(
      const std::filesystem::path&, const DataSet&, const Preprocessing&, int, bool);
  std::vector<CachedCase> cases_;
  std::vector<MappedFile> files_;
  std::int64_t channels_ = 1;
  std::shared_ptr<const LabelScheme> labels_;
  std::filesystem::path folder_;
  std::string key_;
  std::map<std::string, std::vector<std::string>> contents_;
};

/// Content hashes of the files of each training case, by id: images in order, then the label. What
/// `root`/content_index.json remembers (path, size, times, inode) is not read again.
std::map<std::string, std::vector<std::string>> content_hashes(const std::filesystem::path& root,
                                                               const DataSet& data,
                                                               int threads = 0);

/// Opens `root`/<key>/, preprocessing what is missing on `threads` threads (0: all) with a progress
/// bar. The key hashes the contents of the image and label files and the preprocessing. A case file
/// appears by rename only when complete, so a kill leaves either a whole case or none.
CaseCache open_case_cache(const std::filesystem::path& root,
                          const DataSet& data,
                          const Preprocessing& preprocessing,
                          int threads = 0,
                          bool show_progress = true);

/// `${XDG_CACHE_HOME:-~/.cache}/voxnas/preprocessed`, or VOXNAS_DATA_CACHE.
std::filesystem::path default_cache_root();

}  // namespace nas
