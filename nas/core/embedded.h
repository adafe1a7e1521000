// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "nas/core/error.h"

namespace nas {

/// A text file that was compiled into the executable (nas_embed in cmake/NasEmbed.cmake), so that
/// it is there wherever the executable runs.
struct EmbeddedFile {
  std::string_view name;  // relative to the folder of its CMakeLists.txt
  std::string_view content;
};

/// \throws Error(Internal) if there is none of that name.
inline std::string_view embedded_text(std::span<const EmbeddedFile> files, std::string_view name) {
  for (const EmbeddedFile& file : files) {
    if (file.name == name) return file.content;
  }
  fail(ErrorKind::Internal, name, ": not compiled into this executable");
}

}  // namespace nas
