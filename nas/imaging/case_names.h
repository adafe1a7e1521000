// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

namespace nas {

/// A case id becomes the name of files that are written (ID.nii.gz), so it may not lead out of
/// their folder. \throws Error(Input) naming `where` and the id if it is empty, begins with a dot,
/// or holds '/' or a control character.
void check_case_id(const std::string& id, const std::string& where);

/// nnU-Net's channel files: "case_0003" -> ("case", 3); nothing for other names.
std::optional<std::pair<std::string, std::int64_t>> split_channel(const std::string& stem);
/// "case", 3, ".nii.gz" -> "case_0003.nii.gz".
std::string channel_file(const std::string& id, std::size_t channel, const std::string& ending);

/// Whether the name ends like a volume of a format that is neither read nor written: ".mha",
/// ".nrrd", ".dcm", ... in either case.
bool is_foreign_image_name(const std::filesystem::path& file);

/// What lies at `file`, for "found ...": "nothing", "a link that points to nothing (TARGET)",
/// "a folder", "a file".
std::string what_lies_at(const std::filesystem::path& file);

}  // namespace nas
