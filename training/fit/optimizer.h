// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "training/settings/options.h"

namespace nas {

/// Named tensors in a fixed order: how states go into a checkpoint and come back.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The orthogonal factor U V' of `matrix` = U S V' [rows, columns], roughly: singular values come
/// out between about 0.7 and 1.2 (those below about 1e-3 of the norm: less). Five Newton-Schulz
/// iterations of the odd polynomial of Jordan et al., "Muon: an optimizer for hidden layers in
/// neural networks", 2024.
at::Tensor orthogonalized(const at::Tensor& matrix);

/// SGD with Nesterov momentum, Adam and AdamW over LibTorch's fused kernels, NovoGrad, or Muon. The
/// whole state is tensors, so a checkpoint brings it back bit for bit. A parameter whose gradient is undefined (a
/// head that is not trained) is left alone.
class Optimizer {
 public:
  /// AdamW: weight decay only on tensors with more than one axis. Adam as torch.optim.Adam.
  /// NovoGrad: Ginsburg et al., arXiv 1905.11286, as MONAI's Novograd without grad_averaging: the
  /// gradient is divided by the root of the running mean of its squared norm, one number a tensor.
  /// Muon: kernels seen as matrices [axis 0, rest] with at least 8 rows and columns move along
  /// their orthogonalized Nesterov momentum, scaled to a root mean square of 1 as an early step of
  /// AdamW has; everything else, so the heads, as in AdamW.
  Optimizer(std::vector<at::Tensor> parameters, const TrainOptions& options);

  void zero_grad();
  /// Norm of all gradients together (float32 scalar tensor on the device).
  at::Tensor gradient_norm() const;
  /// Scales all gradients by `factor`.
  void scale_gradients(const at::Tensor& factor);
  void step(double learning_rate);

  /// Handles to the state (restoring copies into them).
  NamedTensors state() const;
  const std::vector<at::Tensor>& parameters() const { return parameters_; }

 private:
  std::vector<at::Tensor> gradients() const;
  void muon_step(std::size_t i, double learning_rate);
  void novograd_step(std::size_t i, double learning_rate);
  enum class Rule { Sgd, Adam, AdamW, NovoGrad };
  Rule rule_;                  // of those that Muon does not move
  std::vector<char> by_muon_;  // per parameter
  double momentum_ = 0, weight_decay_ = 0, beta1_ = 0, beta2_ = 0, epsilon_ = 0;
  std::vector<at::Tensor> parameters_, first_, second_,
      steps_;  // SGD and Muon use first_ (momentum) and steps_; second_ is undefined there
};

/// Gradients larger than `clip_norm` are scaled down to it. \returns false and leaves them alone if
/// the norm is not finite. `clip_norm` 0: only the check.
bool clip_gradients(Optimizer& optimizer, double clip_norm);

/// Exponential average of parameters.
class WeightAverage {
 public:
  explicit WeightAverage(std::vector<at::Tensor> parameters);
  /// average = decay * average + (1 - decay) * parameters
  void update(double decay);
  /// Exchanges average and parameters; twice is as before.
  void swap();
  NamedTensors state() const;

 private:
  std::vector<at::Tensor> parameters_, average_;
};

/// Loss scaling for fp16: scale up the loss, scale down the gradients, halve after an overflow,
/// double after `interval` good steps. Source: Micikevicius et al., "Mixed precision training",
/// ICLR 2018.
class GradScaler {
 public:
  explicit GradScaler(at::Device device, double scale = 65536, std::int64_t interval = 2000);
  at::Tensor scale(const at::Tensor& loss) const { return loss * scale_.to(loss.scalar_type()); }
  /// Divides the gradients of `parameters` by the scale. \returns true if all were finite.
  bool unscale(const std::vector<at::Tensor>& parameters);
  /// After each step, with what unscale() found.
  void update();
  double current() const { return scale_.item<double>(); }
  NamedTensors state() const { return {{"scale", scale_}, {"growth", growth_}}; }

 private:
  at::Tensor scale_, growth_, found_infinite_;
  std::int64_t interval_;
};

}  // namespace nas
