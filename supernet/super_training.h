// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>  // SuperReport holds a Json

#include "supernet/search/paths.h"
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

/// Adam moves a logit by about its learning rate a step. DARTS' 3e-4 is made for ten thousands of
/// steps; so that a short search can still tell alternatives apart the rate is 3 / steps (a logit
/// can travel to 3, a probability ratio of 20), within [3e-4, 0.05]. Ours.
double alpha_learning_rate_for(std::int64_t alpha_steps);

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

/// The two disjoint halves of V-NAS: cases for the weights and cases for alpha. Drawn by `seed`;
/// the weights get the larger half. \throws Error(Input) for fewer than two cases.
struct CaseHalves {
  std::vector<std::string> weights, alpha;
};
CaseHalves split_cases(std::vector<std::string> ids, std::uint64_t seed);

/// Mixture weights of every choice from a distribution per decision (tensors [options], gradients
/// flow). Choices without a decision: alternative 0 alone.
std::vector<at::Tensor> mixture_weights(const Graph& graph,
                                        const std::vector<Decision>& decisions,
                                        const std::vector<at::Tensor>& probabilities);

/// Gradients of the alphas (logits, one tensor [options] per decision that requires a gradient).
///   order 1: d/d alpha L(w, alpha; validation).
///   order 2: d/d alpha L(w - rate d/dw L(w, alpha; training), alpha; validation), the mixed second
///     derivative by a central difference along v = dL(validation)/dw with the step
///     0.01 / |v|. Source: Liu et al., "DARTS", ICLR 2019, eq. 7 and 8. The unrolled step is plain
///     gradient descent whatever the optimizer of the weights is (ours), and runs without autocast:
///     in bfloat16 the difference would be rounding noise.
/// `loss` runs the network (which is set to the mixture) on a batch. The weights are as before
/// afterwards.
std::vector<at::Tensor> alpha_gradients(GraphModule& network,
                                        const std::vector<Decision>& decisions,
                                        const std::vector<at::Tensor>& alphas,
                                        const std::function<at::Tensor(const Batch&)>& loss,
                                        const Batch& validation,
                                        const Batch* training = nullptr,
                                        double rate = 0);

/// Trains a super-network in place, through `fit`: the path is drawn, or the alpha step taken,
/// before each weight step. Single path learns from all of `train_ids`; differentiable splits them
/// (split_cases, seed options.seed). A killed training goes on from its checkpoint and ends like
/// the straight one: alpha, its optimizer and the history ride in the checkpoint.
/// \param accept refuses paths that the search space does not allow (single path).
/// \param hooks should_stop, before_step and after_step are called; the others are ours.
/// Differentiable leaves the network mixed, single path on its last path.
SuperReport train_super_network(GraphModule& network,
                                const std::vector<Decision>& decisions,
                                const CaseCache& data,
                                const std::vector<std::string>& train_ids,
                                const TrainOptions& options,
                                const SuperOptions& super = {},
                                const FitFiles& files = {},
                                const FitHooks& hooks = {},
                                const std::function<bool(const std::vector<int>&)>& accept = {});

}  // namespace nas
