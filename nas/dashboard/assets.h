// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace nas {

/// A file of the pages, gzipped when the executable was built (nas_embed_gzip in
/// cmake/NasEmbed.cmake).
struct WebAsset {
  std::string_view name;  // "app.js"
  std::string_view type;  // "text/javascript"
  std::string_view gzip;
};

std::span<const WebAsset> web_assets();
/// Changes with any of them; part of their addresses, so that they may be kept for ever.
const std::string& web_assets_hash();
/// Which libraries are missing in this build and what to do, or "".
std::string missing_web_assets();

}  // namespace nas
