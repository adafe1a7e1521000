// SPDX-License-Identifier: Apache-2.0
#include "training/optimizer.h"

#include <cmath>

#include "nas/core/error.h"

namespace nas {

Optimizer::Optimizer(std::vector<at::Tensor> parameters, const TrainOptions& options)
    : adam_(options.optimizer == "adamw"),
      momentum_(options.momentum),
      weight_decay_(options.weight_decay),
      parameters_(std::move(parameters)) {
  NAS_CHECK_KIND(Usage,
                 adam_ || options.optimizer == "sgd",
                 "optimizer: expected sgd or adamw, found '",
                 options.optimizer,
                 "'");
  for (const at::Tensor& p : parameters_) {
    // The fused kernels walk raw memory: parameters, gradients and states must lie alike.
    NAS_CHECK_KIND(Internal,
                   p.is_contiguous(),
                   "optimizer: a parameter of sizes ",
                   p.sizes(),
                   " is not contiguous");
    first_.push_back(at::zeros_like(p, p.options().requires_grad(false)));
    if (adam_) second_.push_back(at::zeros_like(first_.back()));
    steps_.push_back(at::zeros({}, first_.back().options().dtype(at::kFloat)));
  }
}

void Optimizer::zero_grad() {
  for (at::Tensor& p : parameters_) p.mutable_grad().reset();
}

std::vector<at::Tensor> Optimizer::gradients() const {
  std::vector<at::Tensor> list;
  for (const at::Tensor& p : parameters_) {
    if (p.grad().defined()) list.push_back(p.grad());
  }
  return list;
}

at::Tensor Optimizer::gradient_norm() const {
  const std::vector<at::Tensor> list = gradients();
  if (list.empty()) return at::zeros({});
  return at::stack(at::_foreach_norm(list, 2)).norm();
}

void Optimizer::scale_gradients(const at::Tensor& factor) {
  at::_foreach_mul_(gradients(), factor);
}

void Optimizer::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  // Group 0: weights, with decay; group 1: biases and norms, in AdamW without.
  for (const bool weights : {true, false}) {
    std::vector<at::Tensor> p, g, first, second, steps;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!parameters_[i].grad().defined() || (parameters_[i].dim() > 1) != weights) continue;
      p.push_back(parameters_[i]);
      g.push_back(parameters_[i].grad().contiguous());
      first.push_back(first_[i]);
      if (adam_) second.push_back(second_[i]);
      steps.push_back(steps_[i]);
    }
    if (p.empty()) continue;
    at::_foreach_add_(steps, 1);
    if (adam_) {
      at::_fused_adamw_(p,
                        g,
                        first,
                        second,
                        /*max_exp_avg_sqs=*/{},
                        steps,
                        learning_rate,
                        0.9,
                        0.999,
                        weights ? weight_decay_ : 0.0,
                        1e-8,
                        /*amsgrad=*/false,
                        /*maximize=*/false);
    } else {
      // A zero momentum buffer and is_first_step = false give the same first update: buffer = 0 *
      // momentum + gradient.
      at::_fused_sgd_(p,
                      g,
                      first,
                      weight_decay_,
                      momentum_,
                      learning_rate,
                      /*dampening=*/0.0,
                      /*nesterov=*/momentum_ > 0,
                      /*maximize=*/false,
                      /*is_first_step=*/false);
    }
  }
}

NamedTensors Optimizer::state() const {
  NamedTensors state;
  for (std::size_t i = 0; i < first_.size(); ++i) {
    const std::string n = std::to_string(i);
    state.emplace_back("first." + n, first_[i]);
    if (adam_) state.emplace_back("second." + n, second_[i]);
    state.emplace_back("steps." + n, steps_[i]);
  }
  return state;
}

bool clip_gradients(Optimizer& optimizer, double clip_norm) {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = optimizer.gradient_norm();
  const double value = norm.item<double>();
  if (!std::isfinite(value)) return false;
  if (clip_norm > 0 && value > clip_norm) {
    optimizer.scale_gradients(at::scalar_tensor(clip_norm / (value + 1e-6), norm.options()));
  }
  return true;
}

WeightAverage::WeightAverage(std::vector<at::Tensor> parameters)
    : parameters_(std::move(parameters)) {
  for (const at::Tensor& p : parameters_) average_.push_back(p.detach().clone());
}

void WeightAverage::update(double decay) {
  const at::NoGradGuard no_grad;
  at::_foreach_lerp_(average_, parameters_, 1 - decay);
}

void WeightAverage::copy_to_parameters() {
  const at::NoGradGuard no_grad;
  at::_foreach_copy_(parameters_, average_);
}

NamedTensors WeightAverage::state() const {
  NamedTensors state;
  for (std::size_t i = 0; i < average_.size(); ++i)
    state.emplace_back(std::to_string(i), average_[i]);
  return state;
}

GradScaler::GradScaler(at::Device device, double scale, std::int64_t interval)
    : scale_(at::full({}, scale, at::TensorOptions(device).dtype(at::kFloat))),
      growth_(at::zeros({}, at::TensorOptions(device).dtype(at::kInt))),
      found_infinite_(at::zeros({}, at::TensorOptions(device).dtype(at::kFloat))),
      interval_(interval) {}

bool GradScaler::unscale(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& p : parameters) {
    if (p.grad().defined()) gradients.push_back(p.grad());
  }
  found_infinite_.zero_();
  at::_amp_foreach_non_finite_check_and_unscale_(gradients, found_infinite_, scale_.reciprocal());
  return found_infinite_.item<float>() == 0;
}

void GradScaler::update() {
  at::_amp_update_scale_(scale_, growth_, found_infinite_, 2.0, 0.5, interval_);
}

}  // namespace nas
