// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/doctor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/core/threads.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr double kSpacingTolerance = 1e-3;  // relative, between files of one case
constexpr double kAffineTolerance = 0.1;    // voxels, between files of one case
constexpr double kOutlierFactor = 3;        // between a case's spacing and the median

/// What one case contributes to the checks across cases.
struct CaseReport {
  std::vector<Finding> findings;
  std::string voxel_hash;                       // of all channels; empty if one could not be read
  std::optional<Geometry> geometry;             // of the first readable channel
  std::map<std::int64_t, std::int64_t> labels;  // value -> voxels
  bool label_read = false;
};

std::string mm_text(const Vec3& v) { return concat_text(v[0], " x ", v[1], " x ", v[2]); }

/// The patient axes that x, y, z point to: "RAS", "LPS", ...
std::string orientation_code(const Geometry& g) {
  std::string code;
  for (std::size_t col = 0; col < 3; ++col) {
    std::size_t best = 0;
    for (std::size_t row = 1; row < 3; ++row) {
      if (std::abs(g.affine[4 * row + col]) > std::abs(g.affine[4 * best + col])) best = row;
    }
    code += g.affine[4 * best + col] < 0 ? "LPI"[best] : "RAS"[best];
  }
  return code;
}

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

/// Error messages begin with the file, which a finding has in a field of its own.
std::string without_file(const std::string& message, const fs::path& file) {
  const std::string prefix = file.string() + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

class CaseExaminer {
 public:
  CaseExaminer(const DataSet& data, const CaseFiles& files, bool test)
      : data_(data), files_(files), test_(test) {}

  CaseReport examine() {
    std::size_t constant = 0;
    std::int64_t channels = 0;
    bool all_read = !files_.images.empty();
    Hasher hasher;
    for (const fs::path& file : files_.images) {
      const auto image = read<Image>(file, read_nifti_image);
      if (!image) {
        all_read = false;
        continue;
      }
      check_grid(image->geometry, file);
      for (std::int64_t c = 0; c < image->channels; ++c) {
        if (check_values(image->channel(c), file, channels + c)) ++constant;
      }
      channels += image->channels;
      hasher.add(to_text(image->geometry.shape));
      hasher.add({reinterpret_cast<const char*>(image->voxels.data()),
                  image->voxels.size() * sizeof(float)});
    }
    const auto expected = static_cast<std::int64_t>(data_.channel_names.size());
    if (all_read && channels != expected) {
      add(Severity::Fatal,
          "channel-count",
          files_.images[0],
          concat_text(expected, " channels, as dataset.json names"),
          concat_text(channels),
          "correct the image or the channel names");
    }
    if (constant > 0 && all_read) {
      const bool all = static_cast<std::int64_t>(constant) == channels;
      add(all ? Severity::Fatal : Severity::Warning,
          "constant-image",
          files_.images[0],
          "an image with contrast",
          all ? std::string("one value everywhere")
              : concat_text("one value everywhere in ", constant, " of ", channels, " channels"),
          all ? "leave the case out or restore the image"
              : "check that the channel is not missing");
    }
    if (all_read) report_.voxel_hash = hasher.hex();
    if (!test_) check_label();
    return std::move(report_);
  }

 private:
  void add(Severity severity,
           std::string check,
           const fs::path& file,
           std::string expected,
           std::string found,
           std::string advice) {
    // A bad test case does not spoil the training.
    if (test_ && severity == Severity::Fatal) severity = Severity::Warning;
    report_.findings.push_back({severity,
                                std::move(check),
                                file,
                                std::move(expected),
                                std::move(found),
                                std::move(advice)});
  }

  template <class T, class Read>
  std::optional<T> read(const fs::path& file, const Read& reader) {
    std::error_code code;
    if (!fs::exists(file, code)) {
      add(Severity::Fatal,
          "missing-file",
          file,
          "a NIfTI file",
          "nothing",
          "restore the file or remove the case");
      return std::nullopt;
    }
    try {
      return reader(file);
    } catch (const Error& error) {
      add(Severity::Fatal,
          "damaged-file",
          file,
          "a readable NIfTI file",
          without_file(error.what(), file),
          "copy or export the file again");
    } catch (const std::bad_alloc&) {
      add(Severity::Fatal,
          "too-large",
          file,
          "a volume that fits into memory",
          "out of memory",
          "crop or resample it, or use a larger machine");
    }
    return std::nullopt;
  }

  void check_grid(const Geometry& g, const fs::path& file) {
    const Vec3 by_affine = spacing_of_affine(g);
    if (!same_spacing(g.spacing_mm, by_affine, 0.01)) {
      add(Severity::Warning,
          "spacing-affine",
          file,
          "voxel sizes (pixdim) that agree with the affine",
          concat_text(mm_text(g.spacing_mm), " and ", mm_text(by_affine), " mm"),
          "pixdim is used; correct the header if that is wrong");
    }
    if (!report_.geometry) {
      report_.geometry = g;
      first_ = file;
      return;
    }
    const Geometry& reference = *report_.geometry;
    const std::string name = first_.filename().string();
    if (g.shape != reference.shape) {
      add(Severity::Fatal,
          "shape-mismatch",
          file,
          to_text(reference.shape) + " voxels (D H W) as " + name,
          to_text(g.shape),
          "resample both to one grid");
      return;
    }
    if (!same_spacing(g.spacing_mm, reference.spacing_mm, kSpacingTolerance)) {
      add(Severity::Fatal,
          "spacing-mismatch",
          file,
          mm_text(reference.spacing_mm) + " mm (D H W) as " + name,
          mm_text(g.spacing_mm),
          "correct the header or resample both to one grid");
      return;
    }
    const double apart = grid_distance_mm(g, reference);
    const double voxel = *std::min_element(g.spacing_mm.begin(), g.spacing_mm.end());
    if (apart > kAffineTolerance * voxel) {
      add(Severity::Warning,
          "affine-mismatch",
          file,
          "the position and direction of " + name,
          concat_text("voxels up to ", apart, " mm apart"),
          "look whether image and label lie on each other; correct the headers");
    }
  }

  /// True if the channel has one finite value throughout.
  bool check_values(std::span<const float> values, const fs::path& file, std::int64_t channel) {
    std::int64_t bad = 0;
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (const float v : values) {
      if (!std::isfinite(v)) ++bad;
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    if (bad > 0) {
      add(Severity::Fatal,
          "non-finite",
          file,
          "finite values",
          concat_text(bad, " NaN or infinite voxels in channel ", channel),
          "replace them, e.g. by the image's minimum");
    }
    return bad == 0 && low == high;
  }

  void check_label() {
    const auto label = read<LabelMap>(files_.label, read_nifti_label);
    if (!label) return;
    report_.label_read = true;
    check_grid(label->geometry, files_.label);
    std::vector<std::int64_t> counts(65536, 0);
    for (const std::int16_t v : label->voxels) ++counts[static_cast<std::size_t>(v + 32768)];
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] > 0) report_.labels[static_cast<std::int64_t>(i) - 32768] = counts[i];
    }
    const auto classes = static_cast<std::int64_t>(data_.label_names.size());
    std::string unknown;
    std::int64_t kinds = 0;
    for (const auto& [value, voxels] : report_.labels) {
      if (value >= 0 && value < classes) continue;
      if (++kinds <= 5)
        unknown += concat_text(unknown.empty() ? "" : ", ", value, " (", voxels, " voxels)");
    }
    if (kinds > 0) {
      add(Severity::Fatal,
          "unknown-label",
          files_.label,
          concat_text("labels 0 to ", classes - 1, " of dataset.json"),
          kinds > 5 ? concat_text(unknown, " and ", kinds - 5, " more") : unknown,
          "name them in dataset.json or correct the label map");
    }
    if (report_.labels.size() == 1 && report_.labels.contains(0)) {
      add(Severity::Note,
          "empty-label",
          files_.label,
          "some foreground",
          "background only",
          "fine if the case truly has none");
    }
  }

  const DataSet& data_;
  const CaseFiles& files_;
  bool test_;
  CaseReport report_;
  fs::path first_;  // the file that report_.geometry is from
};

void check_counts(const DataSet& data, const fs::path& folder, std::vector<Finding>& out) {
  const fs::path file = folder / "dataset.json";
  const std::size_t n = data.training.size();
  if (n < 2) {
    out.push_back({Severity::Fatal,
                   "too-few-cases",
                   file,
                   "at least 2 labelled cases, better 20",
                   concat_text(n),
                   "one case cannot be split into training and validation; add cases"});
  } else if (n < 5) {
    out.push_back({Severity::Warning,
                   "too-few-cases",
                   file,
                   "at least 5 labelled cases, better 20",
                   concat_text(n),
                   "add cases; scores on so few say little"});
  }
  const Json json = read_json(file);
  if (const auto stated = json.find("numTraining");
      stated != json.end() && stated->is_number_integer() &&
      stated->get<std::int64_t>() != static_cast<std::int64_t>(n)) {
    out.push_back({Severity::Warning,
                   "case-count",
                   file,
                   concat_text(stated->get<std::int64_t>(), " cases (numTraining)"),
                   concat_text(n),
                   "look for missing files or correct numTraining"});
  }
  if (data.layout != "msd") return;
  std::set<fs::path> listed;
  for (const auto* list : {&data.training, &data.test}) {
    for (const CaseFiles& one : *list) listed.insert(one.images.begin(), one.images.end());
  }
  std::int64_t unlisted = 0;
  fs::path first;
  std::error_code code;
  for (fs::directory_iterator it(data.folder / "imagesTr", code), end; !code && it != end;
       it.increment(code)) {
    if (!is_nifti_name(it->path()) || listed.contains(it->path())) continue;
    if (++unlisted == 1 || it->path() < first) first = it->path();
  }
  if (unlisted > 0) {
    out.push_back({Severity::Note,
                   "unlisted-file",
                   first,
                   "images listed in dataset.json",
                   concat_text(unlisted, " in imagesTr that are not"),
                   "list them to use them"});
  }
}

void check_across(const DataSet& data,
                  const std::vector<const CaseFiles*>& cases,
                  const std::vector<CaseReport>& reports,
                  std::vector<Finding>& out) {
  // Copies.
  std::map<std::string, const CaseFiles*> seen;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (reports[i].voxel_hash.empty()) continue;
    const auto [it, fresh] = seen.emplace(reports[i].voxel_hash, cases[i]);
    if (fresh) continue;
    out.push_back({Severity::Warning,
                   "duplicate-case",
                   cases[i]->images[0],
                   "cases that differ",
                   "the voxels of case " + it->second->id,
                   "remove one: copies on both sides of a split flatter the score"});
  }

  // Spacing.
  std::vector<double> per_axis[3];
  for (const CaseReport& report : reports) {
    if (!report.geometry) continue;
    for (std::size_t a = 0; a < 3; ++a) per_axis[a].push_back(report.geometry->spacing_mm[a]);
  }
  if (per_axis[0].size() >= 3) {
    Vec3 median{};
    for (std::size_t a = 0; a < 3; ++a) {
      auto middle = per_axis[a].begin() + static_cast<std::ptrdiff_t>(per_axis[a].size() / 2);
      std::nth_element(per_axis[a].begin(), middle, per_axis[a].end());
      median[a] = *middle;
    }
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (!reports[i].geometry) continue;
      const Vec3& spacing = reports[i].geometry->spacing_mm;
      bool outlier = false;
      for (std::size_t a = 0; a < 3; ++a) {
        outlier = outlier || spacing[a] > kOutlierFactor * median[a] ||
                  spacing[a] * kOutlierFactor < median[a];
      }
      if (outlier) {
        out.push_back({Severity::Warning,
                       "spacing-outlier",
                       cases[i]->images[0],
                       concat_text("about the median spacing ", mm_text(median), " mm (D H W)"),
                       mm_text(spacing),
                       "check the header's voxel size"});
      }
    }
  }

  // Orientation.
  std::map<std::string, std::int64_t> codes;
  for (const CaseReport& report : reports) {
    if (report.geometry) ++codes[orientation_code(*report.geometry)];
  }
  if (codes.size() > 1) {
    std::string found;
    for (const auto& [code, count] : codes)
      found += concat_text(found.empty() ? "" : ", ", count, " ", code);
    out.push_back({Severity::Warning,
                   "orientation",
                   data.folder,
                   "one axis direction in all cases",
                   found,
                   "voxels are used as they lie; reorient all cases to one direction"});
  }

  // Classes.
  std::vector<std::int64_t> cases_with(data.label_names.size(), 0);
  std::int64_t labels_read = 0;
  for (const CaseReport& report : reports) {
    if (report.label_read) ++labels_read;
    for (const auto& [value, voxels] : report.labels) {
      if (value >= 0 && value < static_cast<std::int64_t>(cases_with.size()))
        ++cases_with[static_cast<std::size_t>(value)];
    }
  }
  if (labels_read == 0) return;  // said file by file
  const fs::path file = data.folder / "dataset.json";
  if (std::all_of(cases_with.begin() + 1, cases_with.end(), [](auto n) { return n == 0; })) {
    out.push_back({Severity::Fatal,
                   "no-foreground",
                   file,
                   "labelled voxels",
                   "background only in all cases",
                   "check the label files"});
    return;
  }
  for (std::size_t k = 1; k < cases_with.size(); ++k) {
    if (cases_with[k] >= 3 || cases_with[k] == labels_read) continue;
    out.push_back({cases_with[k] == 0 ? Severity::Warning : Severity::Note,
                   cases_with[k] == 0 ? "absent-class" : "rare-class",
                   file,
                   concat_text("voxels of label ", k, " (", data.label_names[k], ") in some cases"),
                   concat_text("in ", cases_with[k], " of ", labels_read),
                   cases_with[k] == 0
                       ? "it cannot be learned; remove it from the labels or add cases"
                       : "add cases that show it"});
  }
}

}  // namespace

std::string to_text(Severity severity) {
  switch (severity) {
    case Severity::Fatal:
      return "fatal";
    case Severity::Warning:
      return "warning";
    case Severity::Note:
      return "note";
  }
  return "note";
}

std::string to_text(const Finding& f) {
  return concat_text(to_text(f.severity),
                     " ",
                     f.check,
                     " ",
                     f.file.string(),
                     ": expected ",
                     f.expected,
                     ", found ",
                     f.found,
                     "; ",
                     f.advice);
}

Json to_json(const std::vector<Finding>& findings) {
  Json out = Json::array();
  for (const Finding& f : findings) {
    out.push_back({{"severity", to_text(f.severity)},
                   {"check", f.check},
                   {"file", f.file.string()},
                   {"expected", f.expected},
                   {"found", f.found},
                   {"advice", f.advice}});
  }
  return out;
}

bool any_fatal(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(), [](const auto& f) {
    return f.severity == Severity::Fatal;
  });
}

std::vector<Finding> examine(const fs::path& folder,
                             const std::function<void(std::int64_t, std::int64_t)>& progress,
                             int threads) {
  std::vector<Finding> findings;
  try {
    const DataSet data = open_data_set(folder);
    std::vector<const CaseFiles*> cases;
    for (const CaseFiles& one : data.training) cases.push_back(&one);
    for (const CaseFiles& one : data.test) cases.push_back(&one);
    std::vector<CaseReport> reports(cases.size());
    const auto total = static_cast<std::int64_t>(cases.size());
    std::int64_t done = 0;
    std::mutex mutex;
    parallel_for(
        total,
        [&](std::int64_t i) {
          const auto at = static_cast<std::size_t>(i);
          reports[at] = CaseExaminer(data, *cases[at], at >= data.training.size()).examine();
          const std::lock_guard lock(mutex);
          ++done;
          if (progress) progress(done, total);
        },
        threads);
    check_counts(data, folder, findings);
    check_across(data, cases, reports, findings);
    for (CaseReport& report : reports) {
      std::move(report.findings.begin(), report.findings.end(), std::back_inserter(findings));
    }
  } catch (const Error& error) {
    const fs::path file = folder / "dataset.json";
    findings.push_back({Severity::Fatal,
                        "dataset",
                        file,
                        "a data set in MSD or nnU-Net v2 raw layout",
                        without_file(error.what(), file),
                        "correct dataset.json or the folder"});
  }
  std::stable_sort(findings.begin(), findings.end(), [](const Finding& a, const Finding& b) {
    return std::tie(a.severity, a.file) < std::tie(b.severity, b.file);
  });
  return findings;
}

}  // namespace nas
