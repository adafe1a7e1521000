// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "supernet/search/decisions.h"
#include "supernet/super_options.h"
#include "training/fit/fit.h"

namespace nas {

/// Adam moves a logit by about its learning rate a step. DARTS' 3e-4 is made for ten thousands of
/// steps; so that a short search can still tell alternatives apart the rate is 3 / steps (a logit
/// can travel to 3, a probability ratio of 20), within [3e-4, 0.05]. Ours.
double alpha_learning_rate_for(std::int64_t alpha_steps);

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

/// Trains weights and alpha in turns: after the warm-up an alpha step on cases of its own
/// (split_cases, seed options.seed) goes before each weight step. Alpha, its optimizer and the
/// history ride in the checkpoint. Leaves the network mixed. Arguments as of train_super_network.
void train_differentiable(GraphModule& network,
                          const std::vector<Decision>& decisions,
                          const CaseCache& data,
                          const std::vector<std::string>& train_ids,
                          const TrainOptions& options,
                          const SuperOptions& super,
                          const FitFiles& files,
                          const FitHooks& hooks,
                          SuperReport& report);

}  // namespace nas
