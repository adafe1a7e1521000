// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/optional_stages.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "supernet/search/supernet_search.h"

namespace nas {
namespace {

/// What the space lacks for the stage, or "".
std::string lacks(const SearchSpace& space, const StageSpec& stage) {
  std::set<std::string> known;
  for (const Gene& gene : space.genes()) known.insert(gene.group);
  for (const std::string& group : stage.groups) {
    if (!known.contains(group)) {
      return concat_text("the search space has no genes of group ",
                         group,
                         "; recipes c2fnas, vnas and combined have spaces with them");
    }
  }
  return space.has_super_network() ? "" : "the search space has no super-network";
}

std::string tau_text(std::int64_t trials) {
  const double half = tau_half_width(trials);
  const std::string own = concat_text(trials, " own trainings would check its ranking, ");
  if (!std::isfinite(half)) return own + "too few to tell anything";
  return concat_text(own, "Kendall's tau to +/- ", std::round(half * 100) / 100);
}

}  // namespace

bool is_optional(const StageSpec& stage) {
  return stage.kind->needs_super_network && stage.flag("optional");
}

Recipe without_optional_stages(const Recipe& recipe) {
  Recipe rest = recipe;
  std::erase_if(rest.stages, is_optional);
  return rest;
}

std::vector<std::string> choose_optional_stages(Recipe& recipe,
                                                const SearchSpace& space,
                                                const Budget& budget,
                                                double elapsed,
                                                const SearchProbes& probes) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < recipe.stages.size();) {
    const StageSpec& stage = recipe.stages[i];
    const std::string name = concat_text("stage ", stage.name, " (", stage.kind->words, "): ");
    if (!is_optional(stage)) {
      lines.push_back(name + "runs");
      ++i;
      continue;
    }
    std::string against = lacks(space, stage), checked;
    try {
      // The stages before it may spend all that is theirs: their shares are those of the recipe.
      double spent = elapsed;
      StageBudget share;
      for (std::size_t k = 0; k <= i; ++k) {
        share = stage_budget(
            recipe, k, budget, spent, probes.search, probes.candidate_seconds, probes.start);
        spent = budget.effort > 0 ? spent + share.effort : share.ends_at;
      }
      checked = tau_text(share.trials);
      if (against.empty() && !(tau_half_width(share.trials) <= kWidestTau)) {
        against = concat_text(
            "its ranking could not be checked with this budget (wanted: +/- ", kWidestTau, ")");
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::Usage) throw;
      if (against.empty()) against = error.what();
    }
    if (!checked.empty()) checked = "; " + checked;
    if (against.empty()) {
      lines.push_back(name + "runs" + checked);
      for (StageSpec& other : recipe.stages) {  // an equal-budget control may spend as much
        if (other.control) other.share += stage.share;
      }
      ++i;
    } else {
      lines.push_back(name + "left out: " + against + checked);
      recipe.stages.erase(recipe.stages.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return lines;
}

}  // namespace nas
