// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace nas {

struct DataSet;

/// Fills `splits` and `splits_source` of a data set whose cases are known: from splits.json or
/// splits_final.json beside it, else what dataset.json said, else nnU-Net's five folds (fewer for
/// fewer cases, none for one). \throws Error(Input|Io) naming the file and the case.
void plan_splits(DataSet& data);

/// Validation indices of nnU-Net's `folds`-fold split of n sorted cases (KFold, shuffle, random
/// state 12345: MT19937 as NumPy's RandomState shuffles).
std::vector<std::vector<std::int64_t>> nnunet_folds(std::int64_t cases,
                                                    int folds = 5,
                                                    std::uint32_t seed = 12345);

}  // namespace nas
