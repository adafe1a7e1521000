// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "nas/imaging/dataset.h"
#include "nas/imaging/finding.h"
#include "nas/imaging/volume.h"

namespace nas {

/// The one check of the files of a data set. Doctor prints what it finds; plan, train, search and
/// predict stop at what is fatal, in the same words.

/// What the headers of one case say.
struct CaseHeaders {
  std::optional<Geometry> geometry;  // of the first readable image
  std::vector<Turn> image_turns;     // of each image file onto the first, by its affine
  Turn label_turn;                   // of the label onto the first image
  bool images_fit = true;            // all there, readable, on one grid, as many channels as named
  bool label_fits = false;           // there and readable, on whatever grid
  std::vector<Finding> findings;
};
/// Reads headers only. Files are there and readable; images have the channels that dataset.json
/// names; image, channels and label lie on one grid: shape, spacing, origin and direction. Grids
/// that differ by more than kGridTolerance are fatal between channels, and where the label's
/// spacing differs, unless `data.accept_misaligned`; a label that lies elsewhere is a warning. A
/// file stored in another axis order is turned first; if the grids then still differ it is fatal.
CaseHeaders check_case_headers(const DataSet& data, const CaseFiles& files);

/// NaN and infinity; channels without contrast (fatal if no channel has any).
std::vector<Finding> check_image(const CaseFiles& files, const Image& image);
/// Values that dataset.json does not name (fatal); background only. Counts voxels by value, at
/// index value + 32768.
std::vector<Finding> check_label(const DataSet& data,
                                 const CaseFiles& files,
                                 const std::vector<std::int64_t>& counts);
std::vector<std::int64_t> count_labels(const LabelMap& label);
/// Labelled voxels outside the box of the image's non-zero voxels, which training and prediction
/// crop away. Both on one grid.
std::vector<Finding> check_label_place(const CaseFiles& files,
                                       const Image& image,
                                       const LabelMap& label);

/// What the grids of cases, turned to one orientation, say together: voxel sizes far from the
/// median (fatal where resampling to it is refused), volumes of one slice (fatal if the median has
/// one). \param cases the training cases, then perhaps test cases, in which nothing is fatal.
/// Medians are over the former. \param grids one per case; empty where it is not known.
std::vector<Finding> check_grids(const DataSet& data,
                                 const std::vector<CaseFiles>& cases,
                                 const std::vector<std::optional<Geometry>>& grids);

/// Files beside the listed ones that dataset.json leaves out: a further channel of a listed case
/// (warning), other images (note); and listed files outside the data set's folder (note).
std::vector<Finding> check_listing(const DataSet& data);

/// Everything above that headers can tell of the training cases, before work on them begins.
/// \throws Error(Input) with what is fatal; warnings are logged.
void check_before_training(const DataSet& data, int threads = 0);

/// A file of a case, read; nothing, and a fatal finding, if it is missing, damaged or too large.
std::optional<Image> read_image_file(const CaseFiles& files,
                                     const std::filesystem::path& file,
                                     std::vector<Finding>& findings);
std::optional<LabelMap> read_label_file(const CaseFiles& files, std::vector<Finding>& findings);

}  // namespace nas
