// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace nas {

struct Split {
  std::vector<std::string> train, val;  // case ids
};

/// The splits of the training cases `ids` (sorted) and where they are from: splits.json or
/// splits_final.json in `folder`, else what is in `splits` (of dataset.json), else nnU-Net's five
/// folds (fewer for fewer cases, none for one). \throws Error(Input|Io) naming the file and the case.
void plan_splits(const std::filesystem::path& folder,
                 const std::vector<std::string>& ids,
                 std::vector<Split>& splits,
                 std::string& source);

/// Validation indices of nnU-Net's `folds`-fold split of n sorted cases (KFold, shuffle, random
/// state 12345: MT19937 as NumPy's RandomState shuffles).
std::vector<std::vector<std::int64_t>> nnunet_folds(std::int64_t cases,
                                                    int folds = 5,
                                                    std::uint32_t seed = 12345);

}  // namespace nas
