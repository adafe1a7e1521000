// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/doctor.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/core/threads.h"
#include "nas/imaging/case_headers.h"
#include "nas/imaging/data_set_check.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/voxel_check.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// What one case contributes to the checks across cases.
struct CaseReport {
  std::vector<Finding> findings;
  std::string voxel_hash;                       // of all channels; empty if one could not be read
  std::optional<Geometry> geometry;             // of the first readable channel
  Extent3 cropped{0, 0, 0};                     // shape of the box of voxels that are not 0
  std::map<std::int64_t, std::int64_t> labels;  // value -> voxels
  bool label_read = false;
};

/// Headers first; voxels of what they let through.
CaseReport examine_case(const DataSet& data, const CaseFiles& files, bool test) {
  CaseReport report;
  CaseHeaders headers = check_case_headers(data, files);
  report.geometry = headers.geometry;
  report.findings = std::move(headers.findings);
  const auto add = [&](std::vector<Finding> more) {
    std::move(more.begin(), more.end(), std::back_inserter(report.findings));
  };
  std::optional<Image> image;
  if (headers.images_fit) {
    for (std::size_t i = 0; i < files.images.size(); ++i) {
      auto next = read_image_file(files, files.images[i], report.findings);
      if (!next) {
        image.reset();
        break;
      }
      next = turned(std::move(*next), headers.image_turns[i]);
      if (!image) {
        image = std::move(next);
        continue;
      }
      image->voxels.insert(image->voxels.end(), next->voxels.begin(), next->voxels.end());
      image->channels += next->channels;
    }
  }
  if (image) {
    add(check_image(files, *image));
    report.cropped = nonzero_box(*image).shape;
    report.voxel_hash = Hasher()
                            .add(to_text(image->geometry.shape))
                            .add({reinterpret_cast<const char*>(image->voxels.data()),
                                  image->voxels.size() * sizeof(float)})
                            .hex();
  }
  if (!test && headers.label_fits) {
    if (auto label = read_label_file(files, report.findings)) {
      label = turned(std::move(*label), headers.label_turn);
      const std::vector<std::int64_t> counts = count_labels(*label);
      add(check_label(data, files, counts));
      for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i] > 0) report.labels[static_cast<std::int64_t>(i) - 32768] = counts[i];
      }
      report.label_read = true;
      if (image && image->geometry.shape == label->geometry.shape) {
        add(check_label_place(files, *image, *label));
      }
    }
  }
  if (test) {  // a bad test case does not spoil the training
    for (Finding& f : report.findings) f.severity = std::max(f.severity, Severity::Warning);
  }
  return report;
}

void check_counts(const DataSet& data, const fs::path& folder, std::vector<Finding>& out) {
  const fs::path file = folder / "dataset.json";
  const std::size_t n = data.training.size();
  if (n < 2) {
    out.push_back({Severity::Fatal,
                   "too-few-cases",
                   "",
                   file,
                   "at least 2 labelled cases, better 20",
                   concat_text(n),
                   "one case cannot be split into training and validation; add cases"});
  } else if (n < 5) {
    out.push_back({Severity::Warning,
                   "too-few-cases",
                   "",
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
                   "",
                   file,
                   concat_text(stated->get<std::int64_t>(), " cases (numTraining)"),
                   concat_text(n),
                   "look for missing files or correct numTraining"});
  }
}

void check_across(const DataSet& data,
                  const std::vector<CaseFiles>& cases,
                  const std::vector<CaseReport>& reports,
                  std::vector<Finding>& out) {
  // Copies.
  std::map<std::string, const CaseFiles*> seen;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (reports[i].voxel_hash.empty()) continue;
    const auto [it, fresh] = seen.emplace(reports[i].voxel_hash, &cases[i]);
    if (fresh) continue;
    out.push_back({Severity::Warning,
                   "duplicate-case",
                   cases[i].id,
                   cases[i].images[0],
                   "cases that differ",
                   "the voxels of case " + it->second->id,
                   "remove one: copies on both sides of a split flatter the score"});
  }

  // Orientation.
  std::map<std::string, std::int64_t> codes;
  std::int64_t unsaid = 0, known = 0;
  for (std::size_t i = 0; i < data.training.size(); ++i) {
    if (!reports[i].geometry) continue;
    ++known;
    ++codes[axis_codes(*reports[i].geometry)];
    if (!reports[i].geometry->oriented()) ++unsaid;
  }
  const bool partly = unsaid > 0 && unsaid < known;
  if (codes.size() > 1 || partly) {
    out.push_back({partly ? Severity::Warning : Severity::Note,
                   "orientation",
                   "",
                   data.folder,
                   "one axis direction in all cases",
                   to_text(choose_orientation(std::move(codes), unsaid, "")),
                   partly ? "give those files a qform or sform: left and right are not known"
                          : "choose another one with --orientation"});
  }

  // Classes.
  std::vector<std::int64_t> cases_with(data.labels.names.size(), 0);
  std::int64_t labels_read = 0;
  for (const CaseReport& report : reports) {
    if (report.label_read) ++labels_read;
    for (std::size_t k = 1; k < cases_with.size(); ++k) {
      const bool here = std::ranges::any_of(report.labels, [&](const auto& item) {
        return data.labels.holds(static_cast<std::int64_t>(k) - 1, item.first);
      });
      if (here) ++cases_with[k];
    }
  }
  if (labels_read == 0) return;  // said file by file
  const fs::path file = data.folder / "dataset.json";
  if (std::all_of(cases_with.begin() + 1, cases_with.end(), [](auto n) { return n == 0; })) {
    out.push_back({Severity::Fatal,
                   "no-foreground",
                   "",
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
                   "",
                   file,
                   concat_text("voxels of ",
                               data.labels.has_regions() ? "region " : "label ",
                               k,
                               " (",
                               data.labels.names[k],
                               ") in some cases"),
                   concat_text("in ", cases_with[k], " of ", labels_read),
                   cases_with[k] == 0
                       ? "it cannot be learned; remove it from the labels or add cases"
                       : "add cases that show it"});
  }
}

/// What the planner says to the sizes of the training cases, all of which could be read.
void check_plan(DataSet data,
                const std::vector<CaseReport>& reports,
                const DoctorOptions& options,
                std::vector<Finding>& out) {
  data.orientation = choose_orientation(data, "").codes;
  Fingerprint sizes;
  sizes.orientation = data.orientation;
  for (std::size_t i = 0; i < data.training.size(); ++i) {
    const Geometry& grid = reports[i].geometry.value();
    const Turn turn = turn_to(grid, data.orientation);
    sizes.spacings.push_back(turned_values(grid.spacing_mm, turn));
    sizes.shapes_after_crop.push_back(turned_values(reports[i].cropped, turn));
  }
  try {
    options.plan(data, sizes);
  } catch (const Error& error) {
    out.push_back({Severity::Fatal,
                   "no-plan",
                   "",
                   data.folder,
                   "images that a 3D network can be planned for",
                   error.what(),
                   "check voxel sizes and sizes of the images; crop them less"});
  }
}

}  // namespace

std::vector<Finding> examine(const fs::path& folder, const DoctorOptions& options) {
  std::vector<Finding> findings;
  try {
    DataSet data = open_data_set(folder);
    data.accept_misaligned = options.accept_misaligned;
    std::vector<CaseFiles> cases = data.training;
    cases.insert(cases.end(), data.test.begin(), data.test.end());
    std::vector<CaseReport> reports(cases.size());
    const auto total = static_cast<std::int64_t>(cases.size());
    std::int64_t done = 0;
    std::mutex mutex;
    parallel_for(
        total,
        [&](std::int64_t i) {
          const auto at = static_cast<std::size_t>(i);
          reports[at] = examine_case(data, cases[at], at >= data.training.size());
          const std::lock_guard lock(mutex);
          ++done;
          if (options.progress) options.progress(done, total);
        },
        options.threads);
    check_counts(data, folder, findings);
    check_across(data, cases, reports, findings);
    std::vector<std::optional<Geometry>> grids;
    for (const CaseReport& report : reports) grids.push_back(report.geometry);
    for (auto& more : {check_grids(data, cases, grids), check_listing(data)}) {
      findings.insert(findings.end(), more.begin(), more.end());
    }
    for (CaseReport& report : reports) {
      std::move(report.findings.begin(), report.findings.end(), std::back_inserter(findings));
    }
    if (options.plan && !any_fatal(findings)) check_plan(data, reports, options, findings);
  } catch (const Error& error) {
    const fs::path file = folder / "dataset.json";
    std::string message = error.what();  // begins with the file, which the finding names itself
    if (message.starts_with(file.string() + ": ")) message.erase(0, file.string().size() + 2);
    findings.push_back({Severity::Fatal,
                        "dataset",
                        "",
                        file,
                        "a data set in MSD or nnU-Net v2 raw layout",
                        message,
                        "correct dataset.json or the folder"});
  }
  std::stable_sort(findings.begin(), findings.end(), [](const Finding& a, const Finding& b) {
    return std::tie(a.severity, a.file) < std::tie(b.severity, b.file);
  });
  return findings;
}

}  // namespace nas
