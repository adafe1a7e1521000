// SPDX-License-Identifier: Apache-2.0
// write_seeds FOLDER: FOLDER/<target>/seed<i> for every fuzz target.
#include <cstdio>

#include "nas/core/files.h"
#include "tests/fuzz/targets.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_seeds FOLDER\n");
    return 2;
  }
  for (const auto& target : nas::test::fuzz_targets()) {
    const auto seeds = target.seeds();
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      const auto folder = std::filesystem::path(argv[1]) / target.name;
      nas::write_file_atomic(folder / ("seed" + std::to_string(i)), seeds[i]);
    }
  }
  return 0;
}
