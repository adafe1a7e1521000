// SPDX-License-Identifier: Apache-2.0
#include "nas/network/output_region.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::int64_t kMaxMultiple = 128;

Extent3 first_output_size(const Graph& graph, const Extent3& patch) {
  const std::vector<int> outputs = graph.output_nodes();
  NAS_CHECK(!outputs.empty(), "network '", graph.name, "': has no output");
  return infer_shapes(graph, patch)[static_cast<std::size_t>(outputs.front())].space;
}

bool covers(const Extent3& size, const Extent3& wanted) {
  return std::ranges::equal(size, wanted, std::ranges::greater_equal());
}

std::optional<OutputRegion> region_if_taken(const Graph& graph,
                                            const Extent3& patch,
                                            std::string& reason) {
  try {
    return output_region(graph, patch);
  } catch (const Error& error) {
    reason = error.what();
    return std::nullopt;
  }
}

}  // namespace

OutputRegion output_region(const Graph& graph, const Extent3& patch) {
  const Extent3 size = first_output_size(graph, patch);
  // The size of the result grows with that of the patch: voxel for voxel at full resolution.
  const Extent3 twice = first_output_size(graph, {2 * patch[0], 2 * patch[1], 2 * patch[2]});
  OutputRegion region{{}, size};
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t margin = patch[a] - size[a];
    NAS_CHECK_KIND(Shape,
                   margin >= 0 && twice[a] - size[a] == patch[a],
                   "network '",
                   graph.name,
                   "': the first output must have the resolution of the input; for a patch of ",
                   to_text(patch),
                   " voxels it has ",
                   to_text(size));
    NAS_CHECK_KIND(Shape,
                   margin % 2 == 0,
                   "network '",
                   graph.name,
                   "': the first output, ",
                   to_text(size),
                   " voxels, cannot lie in the middle of a patch of ",
                   to_text(patch));
    region.begin[a] = margin / 2;
  }
  return region;
}

Extent3 fitting_patch(const Graph& graph, const Extent3& wanted) {
  std::string reason, first_reason;
  Extent3 margin{0, 0, 0};  // what the network takes off
  const auto enlarged = [&](std::int64_t multiple) {
    Extent3 patch{};
    for (std::size_t a = 0; a < 3; ++a) {
      patch[a] = (wanted[a] + margin[a] + multiple - 1) / multiple * multiple;
    }
    return patch;
  };
  // Twice, because the margin is known only once some patch has been taken.
  for (int round = 0; round < 2; ++round) {
    for (std::int64_t multiple = 1; multiple <= kMaxMultiple; ++multiple) {
      Extent3 patch = enlarged(multiple);
      const auto region = region_if_taken(graph, patch, reason);
      if (first_reason.empty()) first_reason = reason;
      if (!region) continue;
      if (!covers(region->size, wanted)) {
        for (std::size_t a = 0; a < 3; ++a) margin[a] = patch[a] - region->size[a];
        break;
      }
      // One axis may do with less than the common multiple.
      for (std::size_t a = 0; a < 3; ++a) {
        Extent3 less = patch;
        less[a] = wanted[a] + margin[a];
        const auto smaller = region_if_taken(graph, less, reason);
        if (smaller && covers(smaller->size, wanted)) patch = less;
      }
      return patch;
    }
  }
  fail(ErrorKind::Shape,
       "network '",
       graph.name,
       "': takes no patch that covers ",
       to_text(wanted),
       " voxels; ",
       first_reason);
}

}  // namespace nas
