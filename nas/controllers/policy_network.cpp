// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/policy_network.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nas {
namespace {

constexpr double kEdge = 1e-3;  // unit values are kept this far from 0 and 1, for their logits
constexpr double kSmallOutput = 0.1;  // of the first weights of the outputs: near to no preference
// A number's distribution: its log deviation, and how far from 0 the logit's mean may be. Without
// the bounds a few bad draws in a row send it to an end of the range, from where it does not return.
constexpr double kLeastLogSd = -2.5, kMostLogSd = 1;
constexpr double kMostMean = 4;

double logit(double unit) {
  const double held = std::clamp(unit, kEdge, 1 - kEdge);
  return std::log(held / (1 - held));
}

Eigen::ArrayXd sigmoid(const Eigen::ArrayXd& x) { return 1 / (1 + (-x).exp()); }

Eigen::ArrayXd softmax(const Eigen::ArrayXd& logits) {
  const Eigen::ArrayXd e = (logits - logits.maxCoeff()).exp();
  return e / e.sum();
}

/// Mean of a number's logit from its output, and the derivative of the one by the other.
double mean_logit(double output, double* slope = nullptr) {
  const double t = std::tanh(output / kMostMean);
  if (slope) *slope = 1 - t * t;
  return kMostMean * t;
}

/// Log deviation of a number's logit from its output, and the derivative of the one by the other.
double log_sd(double output, double* slope = nullptr) {
  const double half = 0.5 * (kMostLogSd - kLeastLogSd), middle = 0.5 * (kMostLogSd + kLeastLogSd);
  const double t = std::tanh((output - middle + kMostLogSd * 0.5) / half);
  if (slope) *slope = 1 - t * t;
  return middle + half * t;
}

}  // namespace

/// Views of the matrices in a parameter vector.
struct PolicyNetwork::Parts {
  using Matrix = Eigen::Map<Eigen::MatrixXd>;
  using Vector = Eigen::Map<Eigen::VectorXd>;
  Matrix w, u;  // [3 hidden, inputs], [3 hidden, hidden]: r, z, n
  Vector b;     // [3 hidden]
  Matrix v;     // [outputs, hidden]
  Vector c;     // [outputs]
  Parts(double* at, Eigen::Index inputs, Eigen::Index hidden, Eigen::Index outputs)
      : w(at, 3 * hidden, inputs),
        u(at + w.size(), 3 * hidden, hidden),
        b(at + w.size() + u.size(), 3 * hidden),
        v(at + w.size() + u.size() + b.size(), outputs, hidden),
        c(at + w.size() + u.size() + b.size() + v.size(), outputs) {}
  Eigen::Index size() const { return w.size() + u.size() + b.size() + v.size() + c.size(); }
};

PolicyNetwork::PolicyNetwork(const UnitSpace& space, Eigen::Index hidden, Rng rng)
    : space_(&space), hidden_(hidden) {
  for (const UnitDimension& d : space.dimensions()) {
    inputs_ += d.category ? d.count : 1;
    outputs_ += d.category ? d.count : 2;
  }
  parameters_.setZero(Parts(nullptr, inputs_, hidden_, outputs_).size());
  Parts parts(parameters_.data(), inputs_, hidden_, outputs_);
  const auto fill = [&](Parts::Matrix& matrix, double scale) {
    const double bound = scale / std::sqrt(static_cast<double>(matrix.cols()));
    for (Eigen::Index i = 0; i < matrix.size(); ++i) {
      matrix.data()[i] = rng.uniform(-bound, bound);
    }
  };
  fill(parts.w, 1);
  fill(parts.u, 1);
  fill(parts.v, kSmallOutput);
}

Eigen::VectorXd PolicyNetwork::input(std::span<const double> point, double reward) const {
  Eigen::VectorXd x = Eigen::VectorXd::Zero(inputs_);
  x[0] = reward;
  Eigen::Index at = 1;
  for (std::size_t d = 0; d < space_->size() && !point.empty(); ++d) {
    const UnitDimension& dimension = space_->dimensions()[d];
    if (!dimension.category) {
      x[at++] = 2 * point[d] - 1;
      continue;
    }
    if (point[d] >= 0) x[at + static_cast<Eigen::Index>(point[d])] = 1;
    at += dimension.count;
  }
  return x;
}

PolicyNetwork::Step PolicyNetwork::step(const Eigen::VectorXd& x, const Eigen::VectorXd& h) const {
  // Parts is a view for writing too; nothing is written here.
  const Parts p(const_cast<double*>(parameters_.data()), inputs_, hidden_, outputs_);
  const Eigen::Index n = hidden_;
  const Eigen::VectorXd wx = p.w * x + p.b, uh = p.u * h;
  const Eigen::ArrayXd r = sigmoid((wx.head(n) + uh.head(n)).array());
  const Eigen::ArrayXd z = sigmoid((wx.segment(n, n) + uh.segment(n, n)).array());
  const Eigen::ArrayXd candidate = (wx.tail(n).array() + r * uh.tail(n).array()).tanh();
  Step result;
  result.hidden = (1 - z) * candidate + z * h.array();
  result.outputs = p.v * result.hidden + p.c;
  return result;
}

std::vector<double> PolicyNetwork::draw(const Eigen::VectorXd& outputs, Rng& rng) const {
  std::vector<double> point(space_->size());
  Eigen::Index at = 0;
  for (std::size_t d = 0; d < point.size(); ++d) {
    const UnitDimension& dimension = space_->dimensions()[d];
    if (!dimension.category) {
      const double value =
          mean_logit(outputs[at]) + std::exp(log_sd(outputs[at + 1])) * rng.normal();
      point[d] = 1 / (1 + std::exp(-value));
      at += 2;
      continue;
    }
    const Eigen::ArrayXd p = softmax(outputs.segment(at, dimension.count).array());
    double left = rng.uniform();
    int value = 0;
    while (value + 1 < dimension.count && left >= p[value]) left -= p[value++];
    point[d] = value;
    at += dimension.count;
  }
  space_->settle(point);
  return point;
}

double PolicyNetwork::log_probability(const Eigen::VectorXd& outputs,
                                      std::span<const double> point,
                                      Eigen::VectorXd* gradient) const {
  const std::vector<char> active = space_->active(point);
  double sum = 0;
  Eigen::Index at = 0;
  for (std::size_t d = 0; d < point.size(); ++d) {
    const UnitDimension& dimension = space_->dimensions()[d];
    const Eigen::Index size = dimension.category ? dimension.count : 2;
    if (active[d] && dimension.category) {
      const Eigen::ArrayXd p = softmax(outputs.segment(at, size).array());
      const auto value = static_cast<Eigen::Index>(point[d]);
      sum += std::log(p[value]);
      if (gradient) {
        gradient->segment(at, size) -= p.matrix();
        (*gradient)[at + value] += 1;
      }
    } else if (active[d]) {
      double slope = 0, mean_slope = 0;
      const double log_width = log_sd(outputs[at + 1], &slope);
      const double off =
          (logit(point[d]) - mean_logit(outputs[at], &mean_slope)) * std::exp(-log_width);
      sum += -0.5 * off * off - log_width;
      if (gradient) {
        (*gradient)[at] += off * std::exp(-log_width) * mean_slope;
        (*gradient)[at + 1] += (off * off - 1) * slope;
      }
    }
    at += size;
  }
  return sum;
}

double PolicyNetwork::entropy(const Eigen::VectorXd& outputs, Eigen::VectorXd* gradient) const {
  double sum = 0;
  Eigen::Index at = 0;
  for (const UnitDimension& dimension : space_->dimensions()) {
    const Eigen::Index size = dimension.category ? dimension.count : 2;
    if (dimension.category) {
      const Eigen::ArrayXd p = softmax(outputs.segment(at, size).array());
      const Eigen::ArrayXd log_p = p.max(1e-300).log();
      const double here = -(p * log_p).sum();
      sum += here;
      if (gradient) gradient->segment(at, size) -= (p * (log_p + here)).matrix();
    } else {
      double slope = 0;
      sum +=
          log_sd(outputs[at + 1], &slope) + 0.5 * std::log(2 * std::numbers::pi * std::numbers::e);
      if (gradient) (*gradient)[at + 1] += slope;
    }
    at += size;
  }
  return sum;
}

double PolicyNetwork::loss(const Eigen::VectorXd& x,
                           const Eigen::VectorXd& h,
                           std::span<const double> point,
                           double advantage,
                           double weight,
                           Eigen::VectorXd* gradient) const {
  const Step forward = step(x, h);
  if (!gradient) {
    return -advantage * log_probability(forward.outputs, point) - weight * entropy(forward.outputs);
  }
  Eigen::VectorXd by_probability = Eigen::VectorXd::Zero(outputs_), by_entropy = by_probability;
  const double value = -advantage * log_probability(forward.outputs, point, &by_probability) -
                       weight * entropy(forward.outputs, &by_entropy);
  const Eigen::VectorXd by_output = -advantage * by_probability - weight * by_entropy;
  gradient->setZero(parameters_.size());
  const Parts p(const_cast<double*>(parameters_.data()), inputs_, hidden_, outputs_);
  Parts g(gradient->data(), inputs_, hidden_, outputs_);
  const Eigen::Index n = hidden_;
  g.c = by_output;
  g.v = by_output * forward.hidden.transpose();
  const Eigen::ArrayXd by_hidden = (p.v.transpose() * by_output).array();
  // The gates once more.
  const Eigen::VectorXd wx = p.w * x + p.b, uh = p.u * h;
  const Eigen::ArrayXd r = sigmoid((wx.head(n) + uh.head(n)).array());
  const Eigen::ArrayXd z = sigmoid((wx.segment(n, n) + uh.segment(n, n)).array());
  const Eigen::ArrayXd candidate = (wx.tail(n).array() + r * uh.tail(n).array()).tanh();
  const Eigen::ArrayXd by_candidate = by_hidden * (1 - z) * (1 - candidate.square());
  const Eigen::ArrayXd by_r = by_candidate * uh.tail(n).array() * r * (1 - r);
  const Eigen::ArrayXd by_z = by_hidden * (h.array() - candidate) * z * (1 - z);
  Eigen::VectorXd by_wx(3 * n), by_uh(3 * n);
  by_wx << by_r.matrix(), by_z.matrix(), by_candidate.matrix();
  by_uh << by_r.matrix(), by_z.matrix(), (by_candidate * r).matrix();
  g.w = by_wx * x.transpose();
  g.u = by_uh * h.transpose();
  g.b = by_wx;
  return value;
}

void Adam::step(Eigen::VectorXd& parameters, Eigen::VectorXd gradient) {
  constexpr double kFirst = 0.9, kSecond = 0.999, kTiny = 1e-8;
  const double norm = gradient.norm();
  if (!std::isfinite(norm)) return;
  if (norm > most_norm_) gradient *= most_norm_ / norm;
  ++steps_;
  first_ = kFirst * first_ + (1 - kFirst) * gradient;
  second_ = kSecond * second_ + (1 - kSecond) * gradient.cwiseAbs2();
  const double first_part = 1 - std::pow(kFirst, steps_),
               second_part = 1 - std::pow(kSecond, steps_);
  parameters.array() -=
      rate_ * (first_.array() / first_part) / ((second_.array() / second_part).sqrt() + kTiny);
}

}  // namespace nas
