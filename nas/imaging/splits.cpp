// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/splits.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/text.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

std::vector<Split> read_splits(const std::vector<std::string>& ids, const fs::path& file) {
  const Json json = read_json(file);
  const JsonReader root(json, file.string());
  NAS_CHECK(root.json().is_array() && root.size() > 0,
            root.where(),
            ": expected a list of {\"train\": [...], \"val\": [...]}");
  const std::set<std::string> known(ids.begin(), ids.end());
  std::vector<Split> splits;
  for (std::size_t i = 0; i < root.size(); ++i) {
    const JsonReader item = root.at(i);
    Split split{.train = item.at("train").texts(), .val = item.at("val").texts()};
    std::set<std::string> seen;
    for (const auto* list : {&split.train, &split.val}) {
      NAS_CHECK(!list->empty(),
                item.where(),
                list == &split.val ? ": val" : ": train",
                ": expected at least one case, found none");
      for (const std::string& id : *list) {
        NAS_CHECK(known.contains(id),
                  item.where(),
                  ": expected ids of training cases, found \"",
                  id,
                  "\"",
                  did_you_mean(id, ids));
        NAS_CHECK(seen.insert(id).second,
                  item.where(),
                  ": expected every case once in train and val together, found \"",
                  id,
                  "\" twice");
      }
    }
    splits.push_back(std::move(split));
  }
  return splits;
}

}  // namespace

void plan_splits(const fs::path& folder,
                 const std::vector<std::string>& ids,
                 std::vector<Split>& splits,
                 std::string& source) {
  std::error_code ignored;
  for (const char* name : {"splits.json", "splits_final.json"}) {
    const fs::path file = folder / name;
    if (!fs::exists(file, ignored)) continue;
    splits = read_splits(ids, file);
    source = name;
    return;
  }
  if (!splits.empty()) return;  // dataset.json had them
  const auto n = static_cast<std::int64_t>(ids.size());
  if (n < 2) {
    source = "none: a split needs two cases";
    return;
  }
  const int folds = static_cast<int>(std::min<std::int64_t>(5, n));
  for (const auto& val : nnunet_folds(n, folds)) {
    Split split;
    std::size_t next = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const bool held = next < val.size() && val[next] == i;
      if (held) ++next;
      (held ? split.val : split.train).push_back(ids[static_cast<std::size_t>(i)]);
    }
    splits.push_back(std::move(split));
  }
  source = folds == 5 ? "nnU-Net's 5-fold rule"
                      : concat_text("nnU-Net's rule with ", folds, " folds for ", n, " cases");
}

std::vector<std::vector<std::int64_t>> nnunet_folds(std::int64_t cases,
                                                    int folds,
                                                    std::uint32_t seed) {
  NAS_CHECK(folds >= 2 && cases >= folds,
            "folds: expected 2 to ",
            cases,
            " (the number of cases), found ",
            folds);
  // NumPy's legacy shuffle: for i from n-1 down to 1 swap with a draw from [0, i], taken by masking
  // 32-bit words with the next power of two minus one and rejecting what is too large.
  std::mt19937 generator(seed);
  std::vector<std::int64_t> order(static_cast<std::size_t>(cases));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::size_t i = order.size() - 1; i >= 1; --i) {
    const auto most = static_cast<std::uint32_t>(i);
    std::uint32_t mask = most;
    for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
    std::uint32_t draw = 0;
    do {
      draw = static_cast<std::uint32_t>(generator()) & mask;
    } while (draw > most);
    std::swap(order[i], order[draw]);
  }
  // The first cases % folds folds have one more; indices in ascending order, as a mask gives them.
  std::vector<std::vector<std::int64_t>> out;
  auto from = order.begin();
  for (int fold = 0; fold < folds; ++fold) {
    const std::int64_t count = cases / folds + (fold < cases % folds ? 1 : 0);
    out.emplace_back(from, from + count);
    std::sort(out.back().begin(), out.back().end());
    from += count;
  }
  return out;
}

}  // namespace nas
