// SPDX-License-Identifier: Apache-2.0
#include "nas/report/comparison.h"

#include <cmath>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/report/paired_dice.h"
#include "nas/report/text.h"
#include "nas/search/case_scores.h"
#include "nas/search/statistics.h"

namespace nas {

Json class_means(const Json& details) {
  Json result = Json::array();
  for (const Json& mean : part(details, "mean")) result.push_back(mean);
  return result;
}

Json compare(const Json& best, const Json& baseline, std::uint64_t seed) {
  std::map<std::string, const Json*> other;
  for (const Json& c : part(baseline, "cases")) other[text_or(c, "id")] = &c;
  std::vector<double> best_scores, baseline_scores, differences;
  Json cases = Json::array();
  for (const Json& c : part(best, "cases")) {
    const auto found = other.find(text_or(c, "id"));
    if (found == other.end()) continue;
    const Json &own = part(c, "classes"), &theirs = part(*found->second, "classes");
    const double a = case_dice(own), b = case_dice(theirs);
    if (std::isfinite(a)) best_scores.push_back(a);
    if (std::isfinite(b)) baseline_scores.push_back(b);
    if (std::isfinite(a - b)) differences.push_back(a - b);
    cases.push_back({{"id", text_or(c, "id")},
                     {"best", finite(a)},
                     {"baseline", finite(b)},
                     {"difference", finite(a - b)},
                     {"best_classes", own},
                     {"baseline_classes", theirs}});
  }
  const PairedDice dice(cases);
  std::vector<std::size_t> all(dice.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  const auto difference = [&](std::span<const std::size_t> some) { return dice.difference(some); };
  const PairedComparison c =
      compare_paired(static_cast<std::int64_t>(dice.size()), difference, differences, seed);
  return {{"cases", std::move(cases)},
          {"pairs", c.pairs},
          {"best_mean", finite(dice.best(all))},
          {"baseline_mean", finite(dice.baseline(all))},
          {"best_sd", finite(standard_deviation(best_scores))},
          {"baseline_sd", finite(standard_deviation(baseline_scores))},
          {"mean_difference", finite(c.difference)},
          {"interval", {finite(c.interval.low), finite(c.interval.high)}},
          {"wilcoxon_p", c.wilcoxon.p_value},
          {"wilcoxon_pairs", c.wilcoxon.pairs},
          {"wilcoxon_exact", c.wilcoxon.exact},
          {"verdict", c.verdict},
          {"best_classes", class_means(best)},
          {"baseline_classes", class_means(baseline)}};
}

std::string verdict_sentence(const Json& data) {
  const Json& final_trials = data.at("final");
  const bool has_best = final_trials.contains("best"),
             has_baseline = final_trials.contains("baseline");
  if (data.contains("comparison")) {
    const Json& c = data.at("comparison");
    const std::string verdict = c.at("verdict");
    const std::size_t cases = c.at("cases").size();
    if (cases == 1) {
      return concat_text("On the only held-out case the searched network has a Dice of ",
                         fixed(number_or(c, "best_mean", NAN), 4),
                         ", the planned baseline ",
                         fixed(number_or(c, "baseline_mean", NAN), 4),
                         ": not distinguishable, since one case allows no verdict.");
    }
    std::string text = concat_text(
        "On the ",
        cases,
        " held-out cases the searched network (mean Dice ",
        fixed(number_or(c, "best_mean", NAN), 4),
        ") is ",
        verdict == "not distinguishable" ? "not distinguishable from" : verdict + " than",
        " the planned baseline (",
        fixed(number_or(c, "baseline_mean", NAN), 4),
        "): mean difference ",
        with_sign(number_or(c, "mean_difference", NAN), 4));
    if (c.at("interval")[0].is_number()) {
      text += concat_text(", 95 % interval ",
                          interval_text(c.at("interval"), 4),
                          ", Wilcoxon ",
                          p_text(c.at("wilcoxon_p").get<double>()));
    }
    return text + "." +
           (c.at("pairs").get<std::int64_t>() < 5 ? " Fewer than five cases allow no verdict."
                                                  : "");
  }
  if (!has_best && !has_baseline) {
    return concat_text("The search is not finished: ", data.at("trials").size(), " trials so far.");
  }
  const Json& only = has_best ? final_trials.at("best") : final_trials.at("baseline");
  const std::string score = fixed(number_or(only, "score", NAN), 4);
  if (has_best) {
    return concat_text("The searched network reaches a mean Dice of ",
                       score,
                       " on the held-out cases. The planned baseline was not trained to the end "
                       "(--compare yes does that), so there is nothing to compare.");
  }
  const bool searched = std::ranges::any_of(
      data.at("trials"), [](const Json& trial) { return trial.at("purpose") != "retrain"; });
  if (!searched) {
    return concat_text("There was no search: the planned network has a mean Dice of ",
                       score,
                       " on the held-out cases.");
  }
  if (data.at("best_is_baseline").get<bool>()) {
    return concat_text(
        "The search found nothing better than the planned network on the inner validation cases, "
        "so the planned "
        "network is delivered: mean Dice ",
        score,
        " on the held-out cases.");
  }
  return concat_text(
      "The final training of the searched network did not finish; the planned network is "
      "delivered: mean Dice ",
      score,
      " on the held-out cases.");
}

}  // namespace nas
