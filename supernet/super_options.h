// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>  // SuperReport holds a Json

#include "training/fit/fit.h"

namespace nas {

/// How a super-network is trained and decoded: what a strategy asks for.
struct SuperOptions {
  /// "single_path": one uniformly drawn path a step (C2FNAS). "differentiable": all alternatives
  /// weighted by softmax(alpha), alpha learned on cases of its own (V-NAS, after DARTS).
  std::string method = "single_path";
  int order = 1;  // of the alpha gradient: 1, or 2 (unrolled one weight step)
  /// Share of the steps in which alpha stays as it is, [0, 1). V-NAS: 20 epochs; the share is ours.
  double warmup = 0.3;
  std::string merge = "none";       // "none", "exact", "mixed": see Merge
  double alpha_learning_rate = 0;   // of Adam; 0: by alpha_learning_rate_for
  std::int64_t max_parameters = 0;  // of the decoded network; 0: no limit
  bool operator==(const SuperOptions&) const = default;
};
Json to_json(const SuperOptions& options);
/// \throws Error(Input|Usage) naming `where`, the key, what was expected and found.
SuperOptions super_options_from_json(const Json& value, const std::string& where);
Merge merge_from_text(const std::string& text);

/// How a super-network came out of its training.
struct SuperReport {
  FitReport fit;
  std::vector<std::vector<double>> probabilities;  // [decision][option]; uniform: single path
  std::int64_t alpha_steps = 0;
  std::int64_t alpha_skipped = 0;                         // gradients that were not finite
  int choices = 0, merged_choices = 0, merged_pairs = 0;  // of the mixture (Program)
  /// {"method", "decisions": [{"name", "options"}], "warmup_steps", "alpha_learning_rate",
  ///  "history": [{"step", "entropy", "probabilities"}]}: at most about 100 points; entropy is the
  /// mean over decisions, 1 for uniform probabilities, 0 for a sure choice.
  Json history;
};

}  // namespace nas
