// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/case_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "nas/core/error.h"

namespace nas {

namespace fs = std::filesystem;

void check_case_id(const std::string& id, const std::string& where) {
  const auto control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  const char* wrong = id.empty()                                   ? "is empty"
                      : id.front() == '.'                          ? "begins with a dot"
                      : id.find('/') != std::string::npos          ? "holds a slash"
                      : std::any_of(id.begin(), id.end(), control) ? "holds a control character"
                                                                   : nullptr;
  if (wrong == nullptr) return;
  std::string shown = id;
  std::replace_if(shown.begin(), shown.end(), control, '?');
  fail(ErrorKind::Input,
       where,
       ": expected a case id that can name a file, found \"",
       shown,
       "\", which ",
       wrong);
}

std::optional<std::pair<std::string, std::int64_t>> split_channel(const std::string& stem) {
  if (stem.size() < 6 || stem[stem.size() - 5] != '_') return std::nullopt;
  const std::string digits = stem.substr(stem.size() - 4);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return std::nullopt;
  }
  return std::pair(stem.substr(0, stem.size() - 5), std::int64_t{std::stoi(digits)});
}

std::string channel_file(const std::string& id, std::size_t channel, const std::string& ending) {
  std::string digits = std::to_string(channel);
  digits.insert(0, digits.size() < 4 ? 4 - digits.size() : 0, '0');
  return id + "_" + digits + ending;
}

bool is_foreign_image_name(const fs::path& file) {
  constexpr std::array<std::string_view, 16> kEndings{".mha",
                                                      ".mhd",
                                                      ".nrrd",
                                                      ".nhdr",
                                                      ".dcm",
                                                      ".img",
                                                      ".hdr",
                                                      ".mgh",
                                                      ".mgz",
                                                      ".mnc",
                                                      ".gipl",
                                                      ".tif",
                                                      ".tiff",
                                                      ".nii.bz2",
                                                      ".nii.xz",
                                                      ".nii.zip"};
  std::string name = file.filename().string();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return std::any_of(kEndings.begin(), kEndings.end(), [&](std::string_view ending) {
    return name.ends_with(ending);
  });
}

std::string what_lies_at(const fs::path& file) {
  std::error_code code;
  if (fs::is_directory(file, code)) return "a folder";
  if (fs::exists(file, code)) return "a file";
  if (!fs::is_symlink(file, code)) return "nothing";
  return "a link that points to nothing (" + fs::read_symlink(file, code).string() + ")";
}

}  // namespace nas
