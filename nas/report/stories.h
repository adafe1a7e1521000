// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/report/text.h"
#include "nas/search/stage.h"

/// What the report tells of each stage: cost, choice, and the figure of its kind. `data` is
/// report_data(); `story` and `details` are JSON of docs/formats.md ("Stories of stages"). A figure
/// that has nothing to show is "".
namespace nas {

/// \param kinds the table of all kinds: their words for people; a kind that is not there has none.
/// Stage by stage: kind, cost in seconds and steps, share of the whole, what it chose and why.
Table stage_table(const Json& data, const StrategyKinds& kinds);
/// The final trainings against the baseline: mean, difference with interval, verdict.
Table comparison_table(const Json& data);

/// Candidates in the plane (classical scaling of their distances), coloured by cluster; tried ones
/// are filled by their score.
std::string cluster_svg(const Json& story);
/// Probability of each cluster over the rounds, stacked.
std::string cluster_rounds_svg(const Json& story);
/// Scores with inherited weights against own trainings of the same networks.
std::string rank_svg(const Json& story);
/// One plot for each decision of a differentiable super-network: probabilities over the steps; and
/// the mean entropy. \param details of the super-network's trial.
std::string alpha_svg(const Json& details);
/// Tried points of the scale grid: depth, width, resolution, cost, score.
Table scaling_table(const Json& story);
/// Fitted exponents beside EfficientNet's rule; no rows where nothing could be fitted.
Table exponent_table(const Json& story);
/// Rungs of a successive halving: trials, their scores, how many went on.
Table rung_table(const Json& story);
/// The best candidates by inherited weights, ten at most.
Table candidate_table(const Json& story);

/// One sentence on how well the super-network ranked, or "".
std::string rank_sentence(const Json& story);

/// Everything above for every stage that has a story, with headings.
void add_stories(Html& page, const Json& data, const StrategyKinds& kinds);
struct StorySection {
  std::string title, text;
  std::vector<Table> tables;
};
/// The same without figures, for Markdown.
std::vector<StorySection> story_sections(const Json& data, const StrategyKinds& kinds);

}  // namespace nas
