// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <span>
#include <vector>

#include "nas/core/rng.h"
#include "nas/search/unit_space.h"

namespace nas {

/// A recurrent policy over the points of a UnitSpace: one GRU step from the strategy before and its
/// reward, then for each choice a softmax, for each number a logistic-normal distribution (the logit
/// of the unit value is normal). Written by hand for Eigen; all parameters lie in one vector.
///   r = s(W_r x + U_r h + b_r)   z = s(W_z x + U_z h + b_z)   n = tanh(W_n x + b_n + r * (U_n h))
///   h' = (1 - z) * n + z * h     outputs = V h' + c
/// Source of the cell: Cho et al., arXiv:1406.1078 (the form of cuDNN, without its second bias).
class PolicyNetwork {
 public:
  PolicyNetwork(const UnitSpace& space, Eigen::Index hidden, Rng rng);

  /// [inputs()]: what the policy sees of a strategy. Empty point: there is none yet.
  Eigen::VectorXd input(std::span<const double> point, double reward) const;
  Eigen::Index inputs() const { return inputs_; }
  Eigen::Index hidden() const { return hidden_; }

  struct Step {
    Eigen::VectorXd hidden, outputs;
  };
  Step step(const Eigen::VectorXd& input, const Eigen::VectorXd& hidden) const;
  std::vector<double> draw(const Eigen::VectorXd& outputs, Rng& rng) const;
  /// Log probability of the active genes of a point (up to a term without parameters), and the
  /// entropy of all distributions. Gradients by the outputs are added to.
  double log_probability(const Eigen::VectorXd& outputs,
                         std::span<const double> point,
                         Eigen::VectorXd* gradient = nullptr) const;
  double entropy(const Eigen::VectorXd& outputs, Eigen::VectorXd* gradient = nullptr) const;

  /// -advantage log_probability - weight entropy after one step; `hidden` is a constant.
  /// \param gradient by parameters(), set.
  double loss(const Eigen::VectorXd& input,
              const Eigen::VectorXd& hidden,
              std::span<const double> point,
              double advantage,
              double weight,
              Eigen::VectorXd* gradient) const;

  Eigen::VectorXd& parameters() { return parameters_; }
  const Eigen::VectorXd& parameters() const { return parameters_; }

 private:
  struct Parts;  // views of a parameter vector
  const UnitSpace* space_;
  Eigen::Index hidden_, inputs_ = 1, outputs_ = 0;
  Eigen::VectorXd parameters_;
};

/// Adam (Kingma and Ba, arXiv:1412.6980) with the gradient's norm clipped.
class Adam {
 public:
  Adam(Eigen::Index size, double rate, double most_norm)
      : rate_(rate),
        most_norm_(most_norm),
        first_(Eigen::VectorXd::Zero(size)),
        second_(Eigen::VectorXd::Zero(size)) {}
  void step(Eigen::VectorXd& parameters, Eigen::VectorXd gradient);

 private:
  double rate_, most_norm_;
  Eigen::VectorXd first_, second_;
  int steps_ = 0;
};

}  // namespace nas
