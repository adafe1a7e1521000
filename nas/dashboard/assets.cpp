// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/assets.h"

#include <algorithm>

#include "nas/core/hash.h"

namespace nas {

const std::string& web_assets_hash() {
  static const std::string hash = [] {
    Hasher hasher;
    for (const WebAsset& asset : web_assets()) hasher.add(asset.name).add(asset.gzip);
    return hasher.hex().substr(0, 16);
  }();
  return hash;
}

std::string missing_web_assets() {
  std::string missing;
  for (const char* name : {"uplot.js", "uplot.css", "niivue.js"}) {
    if (std::ranges::find(web_assets(), name, &WebAsset::name) != web_assets().end()) continue;
    missing += (missing.empty() ? "" : ", ") + std::string(name);
  }
  if (missing.empty()) return "";
  return "this executable was built without " + missing +
         "; run `make setup` where the npm registry can be reached, and build again";
}

}  // namespace nas
