// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/case_folder.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "nas/core/error.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

using Group = std::map<std::int64_t, fs::path>;  // channel number -> file

/// True if each file holds all channels by itself.
bool each_holds_all(const Group& files, std::size_t channels) {
  return std::all_of(files.begin(), files.end(), [&](const auto& file) {
    try {
      return read_nifti_header(file.second).channels == static_cast<std::int64_t>(channels);
    } catch (const Error&) {
      return false;  // told where it is read
    }
  });
}

FolderCase case_of_group(const std::string& id, const Group& files, std::size_t channels) {
  FolderCase one{id, {}, ""};
  std::string missing;
  for (std::size_t c = 0; c < channels; ++c) {
    const auto found = files.find(static_cast<std::int64_t>(c));
    if (found != files.end()) {
      one.images.push_back(found->second);
    } else {
      missing += (missing.empty() ? "" : ", ") + channel_file(id, c, "");
    }
  }
  if (files.size() == 1 && channels > 1) return one;  // may hold all channels; its header tells
  if (!missing.empty()) {
    one.problem = concat_text("expected ", channels, " channels, found no ", missing);
  } else if (files.size() > channels) {
    one.problem = concat_text("expected ",
                              channels,
                              " channels, found ",
                              files.size(),
                              " files (",
                              files.rbegin()->second.filename().string(),
                              " is one too many)");
  }
  return one;
}

}  // namespace

FolderCases cases_in_folder(const fs::path& folder, std::size_t channels) {
  FolderCases result;
  std::map<std::string, fs::path> files;  // by stem
  std::map<std::string, std::string> problems;
  std::vector<fs::path> foreign;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path& file = entry.path();
    if (file.filename().string().starts_with('.')) continue;
    std::error_code code;
    if (is_foreign_image_name(file) && !fs::is_directory(file, code)) {
      foreign.push_back(file);
      continue;
    }
    if (!is_nifti_name(file) || fs::is_directory(file, code)) {
      result.notes.push_back(file.string() + ": not a NIfTI file, left out");
      continue;
    }
    const std::string stem = nifti_stem(file);
    const auto [place, fresh] = files.emplace(stem, file);
    if (!fresh) {
      problems[stem] = concat_text("two files claim this case, ",
                                   place->second.filename().string(),
                                   " and ",
                                   file.filename().string());
    } else if (!fs::is_regular_file(file, code)) {
      problems[stem] = file.string() + ": expected an image file, found " + what_lies_at(file);
    }
  }
  std::sort(result.notes.begin(), result.notes.end());
  if (files.empty() && foreign.empty()) {
    const bool data_set =
        fs::is_directory(folder / "imagesTs") || fs::is_directory(folder / "imagesTr");
    fail(ErrorKind::Input,
         folder.string(),
         ": expected .nii or .nii.gz files, found none",
         data_set ? "; give its folder imagesTs or imagesTr" : "");
  }

  std::map<std::string, Group> groups;
  bool beyond = false;  // a number that a model of one channel has no use for
  for (const auto& [stem, file] : files) {
    if (const auto parts = split_channel(stem)) {
      groups[parts->first].emplace(parts->second, file);
      beyond = beyond || parts->second > 0;
    }
  }
  // A number without a channel 0 is part of the name.
  std::erase_if(groups, [](const auto& group) { return !group.second.contains(0); });
  std::erase_if(groups, [&](const auto& group) {
    if (channels == 1 ? !beyond
                      : group.second.size() == 1 || !each_holds_all(group.second, channels)) {
      return false;
    }
    if (group.second.size() > 1) {
      result.notes.push_back(
          concat_text(group.second.begin()->second.string(),
                      " to ",
                      group.second.rbegin()->second.filename().string(),
                      " read like channels of one case; the model has ",
                      channels,
                      channels == 1 ? " channel" : " channels, which each file holds",
                      ": taken as ",
                      group.second.size(),
                      " cases"));
    }
    return true;
  });

  std::map<std::string, FolderCase> cases;
  const auto add = [&](FolderCase one) {
    const std::string id = one.id;
    if (!cases.emplace(id, std::move(one)).second) {
      cases[id].problem = "two files claim this case";
    }
  };
  for (const auto& [stem, file] : files) {
    const auto parts = split_channel(stem);
    const auto group = parts ? groups.find(parts->first) : groups.end();
    if (group == groups.end()) {
      add({stem, {file}, problems[stem]});
    } else if (parts->second == 0) {
      FolderCase one = case_of_group(parts->first, group->second, channels);
      for (const auto& [number, part] : group->second) {
        const std::string& problem = problems[nifti_stem(part)];
        if (!problem.empty()) one.problem = problem;
      }
      add(std::move(one));
    }
  }
  for (const fs::path& file : foreign) {
    add({file.filename().string(),
         {file},
         file.string() +
             ": expected a NIfTI file (.nii, .nii.gz); this format is not read, convert it first"});
  }
  for (auto& [id, one] : cases) result.cases.push_back(std::move(one));
  return result;
}

}  // namespace nas
