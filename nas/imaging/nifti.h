// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "nas/core/error.h"
#include "nas/imaging/volume.h"

namespace nas {

/// Voxel types of a NIfTI file that we read; the numbers are those of the format.
enum class VoxelType : std::int16_t {
  UInt8 = 2,
  Int16 = 4,
  Int32 = 8,
  Float32 = 16,
  Float64 = 64,
  Int8 = 256,
  UInt16 = 512,
  UInt32 = 768,
  Int64 = 1024,
  UInt64 = 1280,
};
std::string to_text(VoxelType type);  // "int16"
std::int64_t bytes_per_voxel(VoxelType type);

/// What a NIfTI header says, checked.
struct NiftiHeader {
  int version = 1;            // 1 or 2
  bool byte_swapped = false;  // the file's byte order is not this machine's
  VoxelType type = VoxelType::Float32;
  Geometry geometry;          // spacing and affine in mm, whatever unit the file uses
  std::int64_t channels = 1;  // the one dimension after x, y, z (time or vector)
  double slope = 1,
         inter = 0;  // value = slope * stored + inter; 1 and 0 where the file leaves them open
  std::int64_t data_offset = 352;  // bytes from the start of the (inflated) file to the first voxel
  /// Bytes of voxel data that the file must hold from `data_offset` on.
  std::int64_t data_bytes() const {
    return volume(geometry.shape) * channels * bytes_per_voxel(type);
  }
};

/// Readers of NIfTI-1 and -2, plain or gzipped (told apart by content, not by name), either byte
/// order, every integer and float type. Axis rule: memory is [C, D, H, W] with W = the file's x,
/// which is the order of the file's bytes. The affine is the sform's, else the qform's, else the
/// spacing alone. No claim of a file is believed: memory is taken only after the header is
/// consistent and the file's size can justify it (a gzipped byte expands to at most 1032). \throws
/// Error(Input) naming the file, the field, what was expected and found; Error(Io) if it cannot be
/// read.
NiftiHeader read_nifti_header(const std::filesystem::path& file);  // reads the first bytes only
Image read_nifti_image(const std::filesystem::path& file);
/// A voxel of a label map that is no label: 0.5 where an interpolation met a border, NaN, 1e6.
class NotALabel : public Error {
 public:
  explicit NotALabel(const std::string& message) : Error(ErrorKind::Input, message) {}
};
/// As an image, but one channel of integers in [-32768, 32767], to within 0.001. \throws NotALabel
/// naming the first voxel that is none.
LabelMap read_nifti_label(const std::filesystem::path& file);

/// The same from the bytes of a whole file; `where` stands for its name in errors.
NiftiHeader parse_nifti_header(std::span<const std::byte> bytes, const std::string& where);
Image parse_nifti(std::span<const std::byte> bytes, const std::string& where);
LabelMap parse_nifti_label(std::span<const std::byte> bytes, const std::string& where);

/// Writes NIfTI-1 (NIfTI-2 where an edge exceeds 32767), gzipped if the name ends in .gz,
/// atomically. Images are float32 with channels as the fourth dimension, labels uint8 if all fit,
/// else int16. A geometry that was read from a file is written in that file's unit and numbers
/// (exact up to the float32 of NIfTI-1); any other in mm, as sform, and as qform too if it is a
/// rotation with the spacing. \throws Error(Input) if the name ends neither in .nii nor in .nii.gz
/// or voxels and shape disagree; Error(Io).
void write_nifti(const std::filesystem::path& file, const Image& image);
void write_nifti(const std::filesystem::path& file, const LabelMap& label);
/// An image of small integers (CT) as int16; values are rounded and clamped.
void write_nifti_int16(const std::filesystem::path& file, const Image& image);

/// "hippocampus_001" of ".../hippocampus_001.nii.gz".
std::string nifti_stem(const std::filesystem::path& file);
/// ".nii" or ".nii.gz" as the name writes it, in either case; "" for other names.
std::string nifti_ending(const std::filesystem::path& file);
/// True for names with such an ending that do not begin with a dot (macOS leaves "._name" beside
/// "name").
bool is_nifti_name(const std::filesystem::path& file);

/// Largest distance in mm between the places where two grids of one shape put the same voxel.
double grid_distance_mm(const Geometry& a, const Geometry& b);

}  // namespace nas
