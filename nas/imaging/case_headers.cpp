// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/case_headers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <new>
#include <sstream>
#include <string>

#include "nas/core/error.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr double kSpacingTolerance = 1e-3;  // relative, between files of one case
constexpr double kAffineTolerance = 1e-2;   // relative, between pixdim and the affine of one file

Vec3 spacing_of_affine(const Geometry& g) {
  Vec3 out{};
  for (std::size_t col = 0; col < 3; ++col) {
    out[2 - col] = std::hypot(g.affine[col], g.affine[4 + col], g.affine[8 + col]);
  }
  return out;
}

bool same_spacing(const Vec3& a, const Vec3& b, double tolerance) {
  for (std::size_t i = 0; i < 3; ++i) {
    if (!(std::abs(a[i] - b[i]) <= tolerance * std::max(a[i], b[i]))) return false;
  }
  return true;
}

/// "origin (1, 2, 3) mm, directions (1 0 0) (0 1 0) (0 0 1)" of x, y and z.
std::string place_text(const Geometry& g) {
  std::ostringstream out;
  out << "origin (" << g.affine[3] << ", " << g.affine[7] << ", " << g.affine[11]
      << ") mm, directions";
  const Vec3 length = spacing_of_affine(g);
  out << std::setprecision(3);
  for (std::size_t col = 0; col < 3; ++col) {
    out << (col == 0 ? " (" : ", (");
    for (std::size_t row = 0; row < 3; ++row) {
      const double value = g.affine[4 * row + col] / length[2 - col];
      out << (row > 0 ? " " : "") << (std::abs(value) < 5e-7 ? 0 : value);
    }
    out << ")";
  }
  return out.str();
}

/// Error messages begin with the file, which a finding has in a field of its own.
std::string without_file(const std::string& message, const fs::path& file) {
  const std::string prefix = file.string() + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

Finding missing_file(const CaseFiles& files, const fs::path& file) {
  return {Severity::Fatal,
          "missing-file",
          files.id,
          file,
          "a NIfTI file",
          what_lies_at(file),
          "restore the file or remove the case"};
}

Finding damaged_file(const CaseFiles& files, const fs::path& file, const Error& error) {
  return {Severity::Fatal,
          "damaged-file",
          files.id,
          file,
          "a readable NIfTI file",
          without_file(error.what(), file),
          nifti_ending(file).empty() ? "convert it to NIfTI (.nii.gz)"
                                     : "copy or export the file again"};
}

/// Calls `read(file)`; what goes wrong becomes a finding.
template <class T, class Read>
std::optional<T> read_or_find(const CaseFiles& files,
                              const fs::path& file,
                              std::vector<Finding>& findings,
                              const Read& read) {
  std::error_code code;
  if (!fs::is_regular_file(file, code)) {
    findings.push_back(missing_file(files, file));
    return std::nullopt;
  }
  try {
    return read(file);
  } catch (const NotALabel& error) {
    findings.push_back({Severity::Fatal,
                        "fractional-label",
                        files.id,
                        file,
                        "whole numbers (labels)",
                        without_file(error.what(), file),
                        "round it, or resample the labels by nearest neighbour"});
  } catch (const Error& error) {
    findings.push_back(damaged_file(files, file, error));
  } catch (const std::bad_alloc&) {
    findings.push_back({Severity::Fatal,
                        "too-large",
                        files.id,
                        file,
                        "a volume that fits into memory",
                        "out of memory",
                        "crop or resample it, or use a larger machine"});
  }
  return std::nullopt;
}

/// Why numbers that look alike may lie a thousandfold apart; "" if both say the same unit.
std::string other_unit(const Geometry& g, const Geometry& reference) {
  constexpr std::array<const char*, 4> kUnits{"no unit (mm)", "metres", "mm", "micrometres"};
  if (!g.stored || !reference.stored || g.stored->unit == reference.stored->unit) return "";
  return concat_text("; its header says ",
                     kUnits.at(static_cast<std::size_t>(g.stored->unit)),
                     ", the other ",
                     kUnits.at(static_cast<std::size_t>(reference.stored->unit)));
}

/// The grid of a further file of a case against that of its first image, onto which it is turned.
/// \returns false if it is
/// another one.
bool check_grid(const DataSet& data,
                const CaseFiles& files,
                const Geometry& reference,
                const fs::path& first,
                const Geometry& stored,
                const fs::path& file,
                Turn& turn,
                std::vector<Finding>& findings) {
  const bool label = file == files.label;
  const std::string name = first.filename().string();
  const Severity misaligned = data.accept_misaligned ? Severity::Warning : Severity::Fatal;
  const std::string go_on = data.accept_misaligned ? "; taken voxel by voxel, as asked"
                                                   : "; --accept-misaligned takes them voxel by "
                                                     "voxel";
  const std::string axes = concat_text("the axes of ", name, " (", axis_codes(reference), ")");
  if (const std::optional<Turn> found = turn_within_case(stored, reference)) {
    turn = *found;
  } else {
    const Geometry there = turned(stored, turn_onto(stored, reference));
    findings.push_back(
        {misaligned,
         "axis-order",
         files.id,
         file,
         axes + ", or its grid when turned to them",
         concat_text(
             axis_codes(stored),
             ", turned ",
             there.shape != reference.shape
                 ? to_text(there.shape) + " voxels"
                 : concat_text("voxels up to ", grid_distance_mm(there, reference), " mm apart")),
         "correct the affine of the wrong one" + go_on});
    if (!data.accept_misaligned) return false;
  }
  if (!turn.is_identity()) {
    findings.push_back({Severity::Note,
                        "axis-order",
                        files.id,
                        file,
                        axes,
                        axis_codes(stored),
                        "nothing to do: it is turned by its affine"});
  }
  const Geometry g = turned(stored, turn);
  if (g.shape != reference.shape) {
    findings.push_back({Severity::Fatal,
                        "shape-mismatch",
                        files.id,
                        file,
                        to_text(reference.shape) + " voxels (D H W) as " + name,
                        to_text(g.shape),
                        "resample both to one grid"});
    return false;
  }
  if (!same_spacing(g.spacing_mm, reference.spacing_mm, kSpacingTolerance)) {
    findings.push_back({misaligned,
                        "spacing-mismatch",
                        files.id,
                        file,
                        "a spacing of " + mm_text(reference.spacing_mm) + " mm (D H W) as " + name,
                        mm_text(g.spacing_mm) + " mm" + other_unit(stored, reference),
                        "correct the header or resample both to one grid" + go_on});
    return data.accept_misaligned;
  }
  const double apart = grid_distance_mm(g, reference);
  const double voxel = *std::min_element(g.spacing_mm.begin(), g.spacing_mm.end());
  if (apart <= kGridTolerance * voxel) return true;
  findings.push_back(
      {label ? Severity::Warning : misaligned,
       "affine-mismatch",
       files.id,
       file,
       concat_text(
           "the place of ", name, " to ", kGridTolerance, " voxels: ", place_text(reference)),
       concat_text(
           place_text(g), ": voxels up to ", apart, " mm apart, ", apart / voxel, " voxels"),
       label ? std::string("look whether image and label lie on each other; correct the headers")
             : "correct the header or resample both to one grid" + go_on});
  return label || data.accept_misaligned;
}

void check_spacing_of(const CaseFiles& files,
                      const Geometry& g,
                      const fs::path& file,
                      std::vector<Finding>& findings) {
  const Vec3 by_affine = spacing_of_affine(g);
  if (same_spacing(g.spacing_mm, by_affine, kAffineTolerance)) return;
  findings.push_back({Severity::Warning,
                      "spacing-affine",
                      files.id,
                      file,
                      "voxel sizes (pixdim) that agree with the affine",
                      concat_text(mm_text(g.spacing_mm), " and ", mm_text(by_affine), " mm"),
                      "pixdim is used; correct the header if that is wrong"});
}

}  // namespace

std::string mm_text(const Vec3& v) { return concat_text(v[0], " x ", v[1], " x ", v[2]); }

CaseHeaders check_case_headers(const DataSet& data, const CaseFiles& files) {
  CaseHeaders result;
  fs::path first;
  std::int64_t channels = 0;
  const auto look = [&](const fs::path& file) {
    const auto header = read_or_find<NiftiHeader>(files, file, result.findings, read_nifti_header);
    if (!header) return false;
    if (file == files.label) {
      result.label_fits = true;
    } else {
      channels += header->channels;
    }
    Turn& turn = file == files.label ? result.label_turn : result.image_turns.back();
    check_spacing_of(files, header->geometry, file, result.findings);
    if (!result.geometry && file != files.label) {
      result.geometry = header->geometry;
      first = file;
      return true;
    }
    return !result.geometry ||
           check_grid(
               data, files, *result.geometry, first, header->geometry, file, turn, result.findings);
  };
  bool all_there = !files.images.empty();
  for (const fs::path& file : files.images) {
    result.image_turns.emplace_back();
    const auto before = channels;
    if (!look(file)) result.images_fit = false;
    if (channels == before) all_there = false;
  }
  const auto expected = static_cast<std::int64_t>(data.channel_names.size());
  if (all_there && channels != expected) {
    result.images_fit = false;
    result.findings.push_back({Severity::Fatal,
                               "channel-count",
                               files.id,
                               files.images[0],
                               concat_text(expected, expected == 1 ? " channel" : " channels"),
                               concat_text(channels),
                               "correct the image or the channel names of dataset.json"});
  }
  if (!files.label.empty()) look(files.label);
  return result;
}

std::optional<Image> read_image_file(const CaseFiles& files,
                                     const fs::path& file,
                                     std::vector<Finding>& findings) {
  return read_or_find<Image>(files, file, findings, read_nifti_image);
}

std::optional<LabelMap> read_label_file(const CaseFiles& files, std::vector<Finding>& findings) {
  return read_or_find<LabelMap>(files, files.label, findings, read_nifti_label);
}

}  // namespace nas
