// SPDX-License-Identifier: Apache-2.0
#include "training/fit/optimizer.h"

#include <cmath>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::int64_t kSmallestMatrix = 8;  // rows and columns

bool is_matrix(const at::Tensor& p) {
  return p.dim() > 1 && p.size(0) >= kSmallestMatrix && p.numel() / p.size(0) >= kSmallestMatrix;
}

}  // namespace

at::Tensor orthogonalized(const at::Tensor& matrix) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  const bool tall = matrix.size(0) > matrix.size(1);
  const at::Tensor x = tall ? matrix.t() : matrix;
  // x_k+1 = (a I + b G + c G^2) x_k with G = x_k x_k'. All factors are polynomials of the first G,
  // so they commute and the iterations run on the small square matrices alone.
  at::Tensor gram = at::mm(x, x.t());
  const at::Tensor squared_norm = gram.trace() + 1e-30;
  gram = gram / squared_norm;
  at::Tensor product;
  for (int i = 0; i < 5; ++i) {
    at::Tensor factor = at::addmm(gram, gram, gram, kB, kC);
    factor.diagonal().add_(kA);
    product = product.defined() ? at::mm(factor, product) : factor;
    if (i < 4) gram = at::mm(factor, at::mm(gram, factor));
  }
  const at::Tensor result = at::mm(product * squared_norm.rsqrt(), x);
  return tall ? result.t() : result;
}

Optimizer::Optimizer(std::vector<at::Tensor> parameters, const TrainOptions& options)
    : rule_(Rule::Sgd),
      momentum_(options.momentum),
      weight_decay_(options.weight_decay),
      beta1_(options.beta1),
      beta2_(options.beta2),
      epsilon_(options.epsilon),
      parameters_(std::move(parameters)) {
  const bool muon = options.optimizer == "muon";
  if (options.optimizer == "adam") {
    rule_ = Rule::Adam;
  } else if (options.optimizer == "adamw" || muon) {
    rule_ = Rule::AdamW;
  } else if (options.optimizer == "novograd") {
    rule_ = Rule::NovoGrad;
  } else {
    NAS_CHECK_KIND(Usage,
                   options.optimizer == "sgd",
                   "optimizer: expected sgd, adam, adamw, novograd or muon, found '",
                   options.optimizer,
                   "'");
  }
  for (const at::Tensor& p : parameters_) {
    // The fused kernels walk raw memory: parameters, gradients and states must lie alike.
    NAS_CHECK_KIND(Internal,
                   p.is_contiguous(),
                   "optimizer: a parameter of sizes ",
                   p.sizes(),
                   " is not contiguous");
    first_.push_back(at::zeros_like(p, p.options().requires_grad(false)));
    by_muon_.push_back(muon && is_matrix(p));
    at::Tensor second;
    if (rule_ == Rule::NovoGrad) second = at::zeros({}, first_.back().options());
    if (rule_ == Rule::Adam || (rule_ == Rule::AdamW && !by_muon_.back())) {
      second = at::zeros_like(first_.back());
    }
    second_.push_back(second);
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

void Optimizer::muon_step(std::size_t i, double learning_rate) {
  const at::Tensor& p = parameters_[i];
  const at::Tensor& momentum = first_[i];
  const at::Tensor gradient = p.grad();
  steps_[i].add_(1);
  momentum.mul_(momentum_).add_(gradient);
  const at::Tensor ahead = at::add(gradient, momentum, momentum_).reshape({p.size(0), -1});
  const double largest = static_cast<double>(std::max(ahead.size(0), ahead.size(1)));
  if (weight_decay_ > 0) p.mul_(1 - learning_rate * weight_decay_);
  p.add_(orthogonalized(ahead).reshape(p.sizes()), -learning_rate * std::sqrt(largest));
}

void Optimizer::novograd_step(std::size_t i, double learning_rate) {
  const at::Tensor& p = parameters_[i];
  const at::Tensor gradient = p.grad();
  const at::Tensor squares = gradient.square().sum();
  // The first step takes the norm as it is. In tensors, so that a GPU is not waited for.
  second_[i].copy_(
      at::where(second_[i].eq(0), squares, beta2_ * second_[i] + (1 - beta2_) * squares));
  steps_[i].add_(1);
  at::Tensor direction = gradient / (second_[i].sqrt() + epsilon_);
  if (weight_decay_ > 0) direction.add_(p, weight_decay_);
  first_[i].mul_(beta1_).add_(direction);
  p.add_(first_[i], -learning_rate);
}

void Optimizer::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].grad().defined()) continue;
    if (by_muon_[i]) muon_step(i, learning_rate);
    if (rule_ == Rule::NovoGrad) novograd_step(i, learning_rate);
  }
  if (rule_ == Rule::NovoGrad) return;
  const bool adam = rule_ != Rule::Sgd;
  // Group 0: weights, with decay; group 1: biases and norms, in AdamW without.
  for (const bool weights : {true, false}) {
    std::vector<at::Tensor> p, g, first, second, steps;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (by_muon_[i]) continue;
      if (!parameters_[i].grad().defined() || (parameters_[i].dim() > 1) != weights) continue;
      p.push_back(parameters_[i]);
      g.push_back(parameters_[i].grad().contiguous());
      first.push_back(first_[i]);
      if (adam) second.push_back(second_[i]);
      steps.push_back(steps_[i]);
    }
    if (p.empty()) continue;
    at::_foreach_add_(steps, 1);
    if (adam) {
      constexpr bool kAmsgrad = false, kMaximize = false;
      const double rate = learning_rate;
      if (rule_ == Rule::Adam) {
        at::_fused_adam_(p,
                         g,
                         first,
                         second,
                         /*max_exp_avg_sqs=*/{},
                         steps,
                         rate,
                         beta1_,
                         beta2_,
                         weight_decay_,
                         epsilon_,
                         kAmsgrad,
                         kMaximize);
      } else {
        at::_fused_adamw_(p,
                          g,
                          first,
                          second,
                          /*max_exp_avg_sqs=*/{},
                          steps,
                          rate,
                          beta1_,
                          beta2_,
                          weights ? weight_decay_ : 0.0,
                          epsilon_,
                          kAmsgrad,
                          kMaximize);
      }
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
    if (second_[i].defined()) state.emplace_back("second." + n, second_[i]);
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

void WeightAverage::swap() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < average_.size(); ++i) {
    const at::Tensor kept = average_[i].clone();
    average_[i].copy_(parameters_[i]);
    parameters_[i].copy_(kept);
  }
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
