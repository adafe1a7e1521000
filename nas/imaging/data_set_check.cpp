// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/data_set_check.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/threads.h"
#include "nas/imaging/case_headers.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/resample.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr double kOutlierFactor = 3;  // between a case's spacing and the median
constexpr int kLogged = 5;            // warnings before training; doctor tells all

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

}  // namespace nas
