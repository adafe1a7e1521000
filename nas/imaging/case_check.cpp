// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/case_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/threads.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/resample.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr double kSpacingTolerance = 1e-3;  // relative, between files of one case
constexpr double kAffineTolerance = 1e-2;   // relative, between pixdim and the affine of one file
constexpr double kOutlierFactor = 3;        // between a case's spacing and the median
constexpr int kLogged = 5;                  // warnings before training; doctor tells all

std::string mm_text(const Vec3& v) { return concat_text(v[0], " x ", v[1], " x ", v[2]); }

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

/// Upper median of each axis over the known ones of the first `count` grids.
template <class Value>
std::optional<Vec3> medians(const std::vector<std::optional<Geometry>>& grids,
                            std::size_t count,
                            const Value& value) {
  Vec3 median{};
  for (std::size_t a = 0; a < 3; ++a) {
    std::vector<double> of_axis;
    for (std::size_t i = 0; i < std::min(count, grids.size()); ++i) {
      if (grids[i]) of_axis.push_back(value(*grids[i], a));
    }
    if (of_axis.empty()) return std::nullopt;
    const auto middle = of_axis.begin() + static_cast<std::ptrdiff_t>(of_axis.size() / 2);
    std::nth_element(of_axis.begin(), middle, of_axis.end());
    median[a] = *middle;
  }
  return median;
}

}  // namespace

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

std::vector<Finding> check_image(const CaseFiles& files, const Image& image) {
  std::vector<Finding> findings;
  const bool file_each = static_cast<std::int64_t>(files.images.size()) == image.channels;
  std::int64_t constant = 0;
  fs::path constant_file;
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const fs::path& file = files.images.at(file_each ? static_cast<std::size_t>(c) : 0);
    std::int64_t bad = 0;
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (const float v : image.channel(c)) {
      if (!std::isfinite(v)) ++bad;
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    if (bad > 0) {
      findings.push_back({Severity::Fatal,
                          "non-finite",
                          files.id,
                          file,
                          "finite values",
                          concat_text(bad, " NaN or infinite voxels in channel ", c),
                          "replace them, e.g. by the image's minimum"});
    } else if (low == high && ++constant == 1) {
      constant_file = file;
    }
  }
  if (constant > 0) {
    const bool all = constant == image.channels;
    findings.push_back(
        {all ? Severity::Fatal : Severity::Warning,
         "constant-image",
         files.id,
         constant_file,
         "an image with contrast",
         all ? std::string("one value everywhere")
             : concat_text(
                   "one value everywhere in ", constant, " of ", image.channels, " channels"),
         all ? "leave the case out or restore the image"
             : "check that the channel is not missing"});
  }
  return findings;
}

std::vector<std::int64_t> count_labels(const LabelMap& label) {
  std::vector<std::int64_t> counts(65536, 0);
  for (const std::int16_t v : label.voxels) ++counts[static_cast<std::size_t>(v + 32768)];
  return counts;
}

std::vector<Finding> check_label(const DataSet& data,
                                 const CaseFiles& files,
                                 const std::vector<std::int64_t>& counts) {
  constexpr std::int64_t kNamed = 5;
  std::vector<Finding> findings;
  const auto classes = data.labels.values();
  std::string unknown;
  std::int64_t kinds = 0, foreground = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::int64_t value = static_cast<std::int64_t>(i) - 32768;
    if (counts[i] == 0 || value == 0) continue;
    ++foreground;
    if (value > 0 && value < classes) continue;
    if (++kinds <= kNamed) {
      unknown += concat_text(unknown.empty() ? "" : ", ", value, " (", counts[i], " voxels)");
    }
  }
  if (kinds > 0) {
    findings.push_back(
        {Severity::Fatal,
         "unknown-label",
         files.id,
         files.label,
         concat_text("labels 0 to ", classes - 1, " of dataset.json"),
         kinds > kNamed ? concat_text(unknown, " and ", kinds - kNamed, " more") : unknown,
         "name them in dataset.json or correct the label map"});
  }
  if (foreground == 0) {
    findings.push_back({Severity::Note,
                        "empty-label",
                        files.id,
                        files.label,
                        "some foreground",
                        "background only",
                        "fine if the case truly has none"});
  }
  return findings;
}

std::vector<Finding> check_label_place(const CaseFiles& files,
                                       const Image& image,
                                       const LabelMap& label) {
  const Extent3& shape = image.geometry.shape;
  const auto plane = static_cast<std::size_t>(shape[1] * shape[2]);
  const auto row = static_cast<std::size_t>(shape[2]);
  const std::size_t voxels = label.voxels.size();
  std::vector<bool> filled(voxels, false);
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const auto values = image.channel(c);
    for (std::size_t i = 0; i < voxels; ++i) {
      if (values[i] != 0) filled[i] = true;
    }
  }
  std::array<std::size_t, 3> low{voxels, voxels, voxels}, high{0, 0, 0};
  std::int64_t bare = 0, labelled = 0;  // bare: labelled where the image is 0
  const auto place = [&](std::size_t i) {
    return std::array<std::size_t, 3>{i / plane, i % plane / row, i % row};
  };
  for (std::size_t i = 0; i < voxels; ++i) {
    if (label.voxels[i] > 0) {
      ++labelled;
      if (!filled[i]) ++bare;
    }
    if (!filled[i]) continue;
    const auto at = place(i);
    for (std::size_t a = 0; a < 3; ++a) {
      low[a] = std::min(low[a], at[a]);
      high[a] = std::max(high[a], at[a]);
    }
  }
  if (bare == 0 || low[0] == voxels) return {};  // an image of zeros is kept whole
  std::int64_t lost = 0;
  for (std::size_t i = 0; i < voxels; ++i) {
    if (label.voxels[i] <= 0 || filled[i]) continue;
    const auto at = place(i);
    bool inside = true;
    for (std::size_t a = 0; a < 3; ++a) inside = inside && at[a] >= low[a] && at[a] <= high[a];
    if (!inside) ++lost;
  }
  if (lost == 0) return {};
  return {{Severity::Warning,
           "label-outside",
           files.id,
           files.label,
           "labels inside the box of the image's non-zero voxels",
           concat_text(lost, " of ", labelled, " labelled voxels outside it"),
           "these can be neither learned nor predicted; correct the label, or the image if it was "
           "masked too tightly"}};
}

std::vector<Finding> check_grids(const DataSet& data,
                                 const std::vector<CaseFiles>& cases,
                                 const std::vector<std::optional<Geometry>>& stored) {
  std::vector<Finding> findings;
  const std::size_t training = data.training.size();
  std::map<std::string, std::int64_t> codes;
  for (std::size_t i = 0; i < std::min(training, stored.size()); ++i) {
    if (stored[i]) ++codes[axis_codes(*stored[i])];
  }
  const std::string common = choose_orientation(std::move(codes), 0, data.orientation).codes;
  std::vector<std::optional<Geometry>> grids = stored;
  for (auto& grid : grids) {
    if (grid) grid = turned(*grid, turn_to(*grid, common));
  }
  const auto median =
      medians(grids, training, [](const Geometry& g, std::size_t a) { return g.spacing_mm[a]; });
  const auto edges = medians(grids, training, [](const Geometry& g, std::size_t a) {
    return static_cast<double>(g.shape[a]);
  });
  if (!median || !edges) return findings;
  const auto known =
      std::count_if(grids.begin(), grids.end(), [](const auto& grid) { return grid.has_value(); });
  for (std::size_t i = 0; i < cases.size() && known >= 3; ++i) {
    if (!grids[i]) continue;
    const Vec3& spacing = grids[i]->spacing_mm;
    bool outlier = false;
    for (std::size_t a = 0; a < 3; ++a) {
      outlier = outlier || spacing[a] > kOutlierFactor * (*median)[a] ||
                spacing[a] * kOutlierFactor < (*median)[a];
    }
    if (!outlier) continue;
    const std::string refused = resampling_problem(grids[i]->shape, spacing, *median);
    findings.push_back({refused.empty() || i >= training ? Severity::Warning : Severity::Fatal,
                        refused.empty() ? "spacing-outlier" : "voxel-size",
                        cases[i].id,
                        cases[i].images[0],
                        concat_text("about the median spacing ", mm_text(*median), " mm (D H W)"),
                        mm_text(spacing) + (refused.empty() ? "" : ": " + refused),
                        "check the header's voxel size"});
  }
  for (std::size_t a = 0; a < 3; ++a) {
    if ((*edges)[a] != 1) continue;
    findings.push_back(
        {Severity::Fatal,
         "one-slice",
         "",
         data.folder,
         "volumes of several slices",
         concat_text("a median of one voxel along ", "DHW"[a], " (D H W): this is a 2D data set"),
         "there is no 3D network for it; stack slices of one patient to volumes"});
    return findings;
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (!grids[i] || *std::min_element(grids[i]->shape.begin(), grids[i]->shape.end()) > 1) {
      continue;
    }
    findings.push_back({Severity::Note,
                        "one-slice",
                        cases[i].id,
                        cases[i].images[0],
                        "a volume of several slices as the other cases",
                        to_text(grids[i]->shape) + " voxels (D H W)",
                        "fine if it is a slice of such a volume"});
  }
  return findings;
}

std::vector<Finding> check_listing(const DataSet& data) {
  std::set<fs::path> listed, folders;
  std::map<std::string, const CaseFiles*> by_place;  // folder/case -> case, for channel files
  std::int64_t elsewhere = 0, upper = 0;
  fs::path first_elsewhere, first_upper;
  for (const auto* list : {&data.training, &data.test}) {
    for (const CaseFiles& one : *list) {
      auto files = one.images;
      if (!one.label.empty()) files.push_back(one.label);
      for (const fs::path& file : files) {
        listed.insert(file);
        const std::string name = file.filename().string();
        if (!name.ends_with(".nii") && !name.ends_with(".nii.gz") && ++upper == 1) {
          first_upper = file;
        }
        const fs::path relative = file.lexically_relative(data.folder);
        if ((relative.empty() || *relative.begin() == "..") && ++elsewhere == 1) {
          first_elsewhere = file;
        }
      }
      for (const fs::path& file : one.images) {
        folders.insert(file.parent_path());
        const std::string stem = nifti_stem(file);
        // A single file "p_0003" may be a case of that name; one of several is a channel.
        const bool channel = data.layout == "nnunet" || one.images.size() > 1;
        const auto parts = channel ? split_channel(stem) : std::nullopt;
        by_place.emplace((file.parent_path() / (parts ? parts->first : stem)).string(), &one);
      }
    }
  }
  std::vector<Finding> findings;
  if (upper > 0) {
    findings.push_back(
        {Severity::Note,
         "file-ending",
         "",
         first_upper,
         "names that end in .nii or .nii.gz",
         concat_text(upper, " file(s) that end otherwise"),
         "read all the same; nnU-Net does not find them: rename them to share the data"});
  }
  std::map<fs::path, std::vector<fs::path>> unlisted;  // by folder
  for (const fs::path& folder : folders) {
    std::error_code code;
    for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
      const fs::path& file = it->path();
      if (!is_nifti_name(file) || listed.contains(file)) continue;
      const auto parts = split_channel(nifti_stem(file));
      const auto owner = parts ? by_place.find((folder / parts->first).string()) : by_place.end();
      if (owner == by_place.end()) {
        unlisted[folder].push_back(file);
        continue;
      }
      findings.push_back(
          {Severity::Warning,
           "unnamed-channel",
           owner->second->id,
           file,
           concat_text(data.channel_names.size(), " channels as dataset.json names"),
           concat_text("a file that reads like channel ", parts->second, " of the case"),
           "it is not used; name the channel in dataset.json or remove the file"});
    }
  }
  for (auto& [folder, files] : unlisted) {
    std::sort(files.begin(), files.end());
    findings.push_back({Severity::Note,
                        "unlisted-file",
                        "",
                        files.front(),
                        "images listed in dataset.json",
                        concat_text(files.size(), " in this folder that are not"),
                        "list them to use them"});
  }
  if (elsewhere > 0) {
    findings.push_back({Severity::Note,
                        "outside-folder",
                        "",
                        first_elsewhere,
                        "files in " + data.folder.string(),
                        concat_text(elsewhere, " that dataset.json takes from elsewhere"),
                        "fine if that is meant; they are only read"});
  }
  return findings;
}

void check_before_training(const DataSet& data, int threads) {
  std::vector<CaseHeaders> headers(data.training.size());
  parallel_for(
      static_cast<std::int64_t>(headers.size()),
      [&](std::int64_t i) {
        const auto at = static_cast<std::size_t>(i);
        headers[at] = check_case_headers(data, data.training[at]);
      },
      threads);
  std::vector<Finding> findings;
  std::vector<std::optional<Geometry>> grids;
  for (CaseHeaders& one : headers) {
    std::move(one.findings.begin(), one.findings.end(), std::back_inserter(findings));
    grids.push_back(one.geometry);
  }
  for (auto& more : {check_grids(data, data.training, grids), check_listing(data)}) {
    findings.insert(findings.end(), more.begin(), more.end());
  }
  stop_at_fatal(findings, data.folder);
  int told = 0;
  for (const Finding& f : findings) {
    if (f.severity == Severity::Warning && ++told <= kLogged) log_warning(sentence(f));
  }
  if (told > kLogged) {
    log_warning(told - kLogged, " more; `voxnas doctor ", data.folder.string(), "` tells all");
  }
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
