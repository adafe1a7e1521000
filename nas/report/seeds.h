// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// A whole search repeated with several seeds: what `voxnas search --seeds n` reports.
///
/// For each final training ("best", "baseline", "control"): mean Dice on the held-out cases for
/// each seed, mean and standard deviation over seeds. For best and control also the difference to
/// the baseline of the same seed: each seed's own paired test, how many seeds are better, and a
/// pooled paired test over cases, each case's difference being its mean over the seeds (so that
/// seeds do not count as cases); and the size of what was trained. \param runs finished run folders
/// of one data set and fold. \throws Error naming the folder whose report cannot be read.
Json seeds_summary(const std::vector<std::filesystem::path>& runs);

/// The finished runs (those with a report) in the folder of `voxnas search --seeds`, by seed; empty
/// where there are none.
std::vector<std::filesystem::path> finished_seeds(const std::filesystem::path& folder);

/// The summary as a self-contained HTML page, and as Markdown.
std::string seeds_html(const Json& summary);
std::string seeds_markdown(const Json& summary);
/// One sentence: how often and by how much the searched network beat the baseline.
std::string seeds_sentence(const Json& summary);

}  // namespace nas
