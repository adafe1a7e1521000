// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/gaussian_process.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "nas/controllers/bounded_minimum.h"

namespace nas {
namespace {

// Bounds of a fit: beyond them the data say nothing.
constexpr double kShortest = 5e-3, kLongest = 1e3;
constexpr double kSmallestVariance = 1e-3, kLargestVariance = 1e4;
constexpr double kMostNoise = 2;
// Added to the diagonal, relative to the variance, until the matrix can be factored.
constexpr double kFirstJitter = 1e-10, kLastJitter = 1e-4;

double prior_log_length_mean(Eigen::Index dimensions) {
  return -1 + 0.5 * std::log(static_cast<double>(dimensions));
}
constexpr double kLogLengthVariance = 0.5;
constexpr double kVarianceShape = 2, kVarianceRate = 1;
constexpr double kNoiseShape = 1.1, kNoiseRate = 30;

/// Log density of gamma up to a constant, of a value given by its log, and its derivative by that.
double log_gamma_prior(double log_value, double shape, double rate, double* slope) {
  const double value = std::exp(log_value);
  if (slope) *slope += shape - 1 - rate * value;
  return (shape - 1) * log_value - rate * value;
}

double log_prior(const GpParameters& p, Eigen::VectorXd* gradient) {
  const Eigen::Index d = p.log_length.size();
  const double mean = prior_log_length_mean(d);
  double value = 0;
  for (Eigen::Index j = 0; j < d; ++j) {
    const double off = p.log_length[j] - mean;
    value -= 0.5 * off * off / kLogLengthVariance;
    if (gradient) (*gradient)[j] -= off / kLogLengthVariance;
  }
  value += log_gamma_prior(
      p.log_variance, kVarianceShape, kVarianceRate, gradient ? &(*gradient)[d] : nullptr);
  value += log_gamma_prior(
      p.log_noise, kNoiseShape, kNoiseRate, gradient ? &(*gradient)[d + 1] : nullptr);
  return value;
}

const double kRoot5 = std::sqrt(5.0);

/// Kernel over variance from sum d^2 / l^2.
Eigen::ArrayXXd matern(const Eigen::MatrixXd& distances) {
  const Eigen::ArrayXXd q = kRoot5 * distances.array().sqrt();
  return (1 + q + q.square() / 3) * (-q).exp();
}

}  // namespace

Eigen::VectorXd GpParameters::packed() const {
  Eigen::VectorXd result(log_length.size() + 2);
  result << log_length, log_variance, log_noise;
  return result;
}

GpParameters GpParameters::unpacked(const Eigen::VectorXd& packed) {
  const Eigen::Index d = packed.size() - 2;
  return {packed.head(d), packed[d], packed[d + 1]};
}

GpParameters GpParameters::standard(Eigen::Index dimensions) {
  return {
      Eigen::VectorXd::Constant(dimensions, prior_log_length_mean(dimensions)), 0, std::log(1e-3)};
}

GaussianProcess::GaussianProcess(Eigen::MatrixXd points,
                                 std::vector<char> category,
                                 std::vector<int> groups)
    : points_(std::move(points)), category_(std::move(category)), groups_(std::move(groups)) {}

/// The covariance that a common offset brings.
void GaussianProcess::add_offsets(Eigen::MatrixXd& kernel, double sign) const {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    for (std::size_t k = 0; k < groups_.size(); ++k) {
      if (groups_[i] == 0 || groups_[i] != groups_[k]) continue;
      kernel(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(k)) += sign;
    }
  }
}

Eigen::MatrixXd GaussianProcess::distances(const Eigen::MatrixXd& a,
                                           const Eigen::MatrixXd& b,
                                           const Eigen::VectorXd& weights) const {
  Eigen::MatrixXd result = Eigen::MatrixXd::Zero(a.cols(), b.cols());
  for (Eigen::Index j = 0; j < a.rows(); ++j) {
    const Eigen::ArrayXd of_a = a.row(j).transpose();
    for (Eigen::Index k = 0; k < b.cols(); ++k) {
      const double other = b(j, k);
      if (category_[static_cast<std::size_t>(j)]) {
        result.col(k).array() += weights[j] * (of_a != other).cast<double>();
      } else {
        result.col(k).array() += weights[j] * (of_a - other).square();
      }
    }
  }
  return result;
}

double GaussianProcess::log_posterior(const Eigen::VectorXd& observations,
                                      const GpParameters& parameters,
                                      Eigen::VectorXd* gradient) const {
  const Eigen::Index n = size(), d = dimensions();
  const Eigen::VectorXd weights = (-2 * parameters.log_length.array()).exp();
  const double variance = std::exp(parameters.log_variance);
  const double noise = std::exp(parameters.log_noise);
  const Eigen::MatrixXd squared = distances(points_, points_, weights);
  const Eigen::ArrayXXd q = kRoot5 * squared.array().sqrt();
  const Eigen::ArrayXXd decay = variance * (-q).exp();
  Eigen::MatrixXd kernel = (1 + q + q.square() / 3) * decay;
  kernel.diagonal().array() += noise + kFirstJitter * variance;
  add_offsets(kernel);
  const Eigen::LLT<Eigen::MatrixXd> factor(kernel);
  if (factor.info() != Eigen::Success) {
    if (gradient) gradient->setZero(d + 2);
    return -std::numeric_limits<double>::infinity();
  }
  const Eigen::VectorXd alpha = factor.solve(observations);
  const double log_determinant = 2 * factor.matrixLLT().diagonal().array().log().sum();
  double value = -0.5 * (observations.dot(alpha) + log_determinant);
  if (gradient) {
    gradient->setZero(d + 2);
    // d log p / d theta = 1/2 tr((alpha alpha' - K^-1) dK / d theta)
    Eigen::MatrixXd m = factor.solve(Eigen::MatrixXd::Identity(n, n));
    m = 0.5 * (alpha * alpha.transpose() - m);
    (*gradient)[d + 1] = m.trace() * noise;
    add_offsets(kernel, -1);
    // kernel - noise is what scales with the variance.
    (*gradient)[d] = (m.array() * kernel.array()).sum() - m.trace() * noise;
    // d k / d log l_j = 5/3 (1 + q) v exp(-q) d_j^2 / l_j^2
    const Eigen::MatrixXd g = (m.array() * (5.0 / 3) * (1 + q) * decay).matrix();
    const Eigen::VectorXd sums = g.rowwise().sum();
    for (Eigen::Index j = 0; j < d; ++j) {
      double sum = 0;
      if (category_[static_cast<std::size_t>(j)]) {
        for (Eigen::Index k = 0; k < n; ++k) {
          sum += g.col(k).dot(
              (points_.row(j).transpose().array() != points_(j, k)).cast<double>().matrix());
        }
      } else {
        const Eigen::VectorXd x = points_.row(j);
        sum = 2 * (x.array().square().matrix().dot(sums) - x.dot(g * x));
      }
      (*gradient)[j] = weights[j] * sum;
    }
  }
  return value + log_prior(parameters, gradient);
}

GpParameters GaussianProcess::fitted(const Eigen::VectorXd& observations,
                                     const GpParameters& start,
                                     int evaluations) const {
  const Eigen::Index d = dimensions();
  const Differentiable loss = [&](const Eigen::VectorXd& x, Eigen::VectorXd* gradient) {
    const double value = log_posterior(observations, GpParameters::unpacked(x), gradient);
    if (gradient) *gradient = -*gradient;
    return -value;
  };
  Eigen::VectorXd low(d + 2), high(d + 2);
  low << Eigen::VectorXd::Constant(d, std::log(kShortest)), std::log(kSmallestVariance),
      std::log(kLeastNoise);
  high << Eigen::VectorXd::Constant(d, std::log(kLongest)), std::log(kLargestVariance),
      std::log(kMostNoise);
  const Eigen::VectorXd standard = GpParameters::standard(d).packed();
  Eigen::VectorXd from = start.packed().cwiseMax(low).cwiseMin(high);
  if (!(loss(from, nullptr) <= loss(standard, nullptr))) from = standard;
  return GpParameters::unpacked(bounded_minimum(loss, from, low, high, evaluations).x);
}

bool GaussianProcess::factor(const GpParameters& parameters) {
  parameters_ = parameters;
  weights_ = (-2 * parameters.log_length.array()).exp();
  const double variance = std::exp(parameters.log_variance);
  Eigen::MatrixXd kernel = variance * matern(distances(points_, points_, weights_));
  kernel.diagonal().array() += std::exp(parameters.log_noise);
  add_offsets(kernel);
  for (jitter_ = kFirstJitter; jitter_ <= kLastJitter * 1.01; jitter_ *= 10) {
    Eigen::MatrixXd raised = kernel;
    raised.diagonal().array() += jitter_ * variance;
    factor_.compute(raised);
    if (factor_.info() == Eigen::Success && factor_.matrixLLT().allFinite()) return true;
  }
  return false;
}

void GaussianProcess::condition(const Eigen::VectorXd& observations) {
  alpha_ = factor_.solve(observations);
}

void GaussianProcess::predict_all(const Eigen::MatrixXd& points,
                                  Eigen::VectorXd& means,
                                  Eigen::VectorXd& variances) const {
  const double variance = std::exp(parameters_.log_variance);
  Eigen::MatrixXd cross = variance * matern(distances(points_, points, weights_));
  means = cross.transpose() * alpha_;
  factor_.matrixL().solveInPlace(cross);
  variances = (variance - cross.colwise().squaredNorm().transpose().array()).max(0);
}

GaussianProcess::Prediction GaussianProcess::predict(const Eigen::VectorXd& point) const {
  Eigen::VectorXd mean, variance;
  predict_all(point, mean, variance);
  return {mean[0], variance[0]};
}

GaussianProcess::Prediction GaussianProcess::predict(const Eigen::VectorXd& point,
                                                     Eigen::VectorXd& mean_gradient,
                                                     Eigen::VectorXd& variance_gradient) const {
  const double variance = std::exp(parameters_.log_variance);
  const Eigen::ArrayXd q = kRoot5 * distances(points_, point, weights_).col(0).array().sqrt();
  const Eigen::ArrayXd decay = variance * (-q).exp();
  const Eigen::VectorXd cross = (1 + q + q.square() / 3) * decay;
  const Eigen::VectorXd solved = factor_.solve(cross);
  // d k(x, x_i) / d x_j = -5/3 (1 + q) v exp(-q) (x_j - x_ij) / l_j^2
  const Eigen::VectorXd slope = -(5.0 / 3) * (1 + q) * decay;
  mean_gradient.setZero(dimensions());
  variance_gradient.setZero(dimensions());
  for (Eigen::Index j = 0; j < dimensions(); ++j) {
    if (category_[static_cast<std::size_t>(j)]) continue;
    const Eigen::VectorXd by =
        slope.array() * (point[j] - points_.row(j).transpose().array()) * weights_[j];
    mean_gradient[j] = by.dot(alpha_);
    variance_gradient[j] = -2 * by.dot(solved);
  }
  return {cross.dot(alpha_), std::max(0.0, variance - cross.dot(solved))};
}

}  // namespace nas
