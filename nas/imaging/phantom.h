// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "nas/core/extent.h"
#include "nas/core/rng.h"
#include "nas/imaging/volume.h"

namespace nas {

/// A made-up segmentation task: a body with organs that touch one another and round decoys as
/// bright as the first organ, under noise, texture and a bias field. Each organ has a brightness, a
/// grain and a form of its own, so that a mirrored one is still known. `alike`: all organs look the
/// same, nearly as bright as the body and the decoys; place alone tells them apart, which is what
/// mirroring destroys.
struct PhantomOptions {
  std::int64_t cases = 12;      // labelled cases, >= 1
  std::int64_t test_cases = 2;  // unlabelled cases, >= 0
  Extent3 size{40, 48, 40};     // voxels D H W of the mean case, each >= 8
  double size_jitter = 0.1;     // edges vary by up to this share, [0, 0.5]
  Vec3 spacing_mm{1, 1, 1};     // D H W
  std::int64_t channels = 1;    // 1..8; the organs differ in contrast between channels
  std::int64_t classes = 2;     // foreground classes, 1..8
  bool alike = false;           // organs differ in their place alone
  bool lesion_class = false;  // true: the last class is a lesion in about half of the cases (needs
                              // classes >= 2); false: those lesions count as the organ they lie in
  std::string modality = "MRI";  // name of the channels; "CT" gives int16 Hounsfield-like values
  double noise = 0.08;  // deviation of the voxel noise, as a share of the body's brightness
  std::uint64_t seed = 1;
  std::string layout = "msd";  // "msd" or "nnunet" (v2 raw)
  std::string name{};          // data set name; empty: the folder's
};

struct PhantomCase {
  Image image;
  LabelMap label;
};

/// Case number `index`: a function of the options and the seed alone.
PhantomCase make_phantom_case(const PhantomOptions& options, std::int64_t index);

/// Writes the data set. The folder must be absent or empty, so that nothing is overwritten.
/// \throws Error(Usage) on options out of range; Error(Io).
void write_phantom(const std::filesystem::path& folder, const PhantomOptions& options);

}  // namespace nas
