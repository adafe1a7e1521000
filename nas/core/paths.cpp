// SPDX-License-Identifier: Apache-2.0
#include "nas/core/paths.h"

#include <algorithm>
#include <cstddef>
#include <system_error>

namespace nas {

namespace fs = std::filesystem;

std::vector<fs::path> split_paths(const std::string& list) {
  std::vector<fs::path> paths;
  for (std::size_t begin = 0; begin < list.size();) {
    std::size_t end = list.size();
    std::error_code ignored;  // a name too long to exist
    while (end > begin && !fs::exists(list.substr(begin, end - begin), ignored)) {
      const std::size_t comma = list.rfind(',', end - 1);
      end = comma == std::string::npos || comma < begin ? begin : comma;
    }
    if (end == begin) end = std::min(list.find(',', begin), list.size());
    if (end > begin) paths.emplace_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return paths;
}

}  // namespace nas
