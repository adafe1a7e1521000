// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <vector>

namespace nas {

/// Hyper-parameters of the process, logs as they are fitted.
struct GpParameters {
  Eigen::VectorXd log_length;      // one a dimension, units of that dimension
  double log_variance = 0;         // of the function
  double log_noise = 0;            // variance of an observation around it
  Eigen::VectorXd packed() const;  // log_length, log_variance, log_noise
  static GpParameters unpacked(const Eigen::VectorXd& packed);
  /// Where a fit begins: the modes of the priors, roughly.
  static GpParameters standard(Eigen::Index dimensions);
};

/// Zero-mean Gaussian process with a Matern-5/2 kernel and a length scale a dimension:
///   k(x, x') = v (1 + q + q^2 / 3) exp(-q),  q^2 = 5 sum_j d_j(x, x')^2 / l_j^2
/// where d_j is the difference in an ordered dimension and 0 or 1 (equal or not) in a category.
/// Priors, for values in [0, 1] and observations of variance 1: l log-normal, its median growing
/// with the root of the dimensions (Hvarfner et al., ICML 2024, arXiv:2402.02229) from e^-1, log
/// variance 0.5 (ours: with their e^sqrt(2) and 3 a few observations are often explained by one
/// dimension of hardly any length; measured with experiments/bench/controllers); v gamma(2, 1) and
/// noise gamma(1.1, 30) as Optuna's; noise at least kLeastNoise.
class GaussianProcess {
 public:
  static constexpr double kLeastNoise = 1e-6;

  /// \param points [dimensions, n], a column an observation. \param category of each dimension.
  /// \param groups of observations that share an unknown offset of deviation 1, one number an
  /// observation; 0: none. Empty: no observation has one.
  GaussianProcess(Eigen::MatrixXd points, std::vector<char> category, std::vector<int> groups = {});

  /// Log density of the observations and the parameters, with its gradient by packed().
  /// -infinity where the kernel matrix cannot be factored.
  double log_posterior(const Eigen::VectorXd& observations,
                       const GpParameters& parameters,
                       Eigen::VectorXd* gradient = nullptr) const;

  /// The parameters of highest log_posterior near the better of `start` and the standard ones.
  GpParameters fitted(const Eigen::VectorXd& observations,
                      const GpParameters& start,
                      int evaluations) const;

  /// Fixes the parameters. False: the kernel matrix cannot be factored, whatever jitter is added.
  bool factor(const GpParameters& parameters);
  /// After factor(). Conditions on these observations.
  void condition(const Eigen::VectorXd& observations);

  struct Prediction {
    double mean = 0, variance = 0;  // of the function, without noise
  };
  Prediction predict(const Eigen::VectorXd& point) const;
  /// With derivatives by every dimension (0 for categories).
  Prediction predict(const Eigen::VectorXd& point,
                     Eigen::VectorXd& mean_gradient,
                     Eigen::VectorXd& variance_gradient) const;
  /// Many at once. \param points [dimensions, m].
  void predict_all(const Eigen::MatrixXd& points,
                   Eigen::VectorXd& means,
                   Eigen::VectorXd& variances) const;

  Eigen::Index size() const { return points_.cols(); }
  Eigen::Index dimensions() const { return points_.rows(); }
  double jitter() const { return jitter_; }  // that factor() had to add, relative

 private:
  /// sum_j d_j^2 / l_j^2 between all columns of the two. \param weights 1 / l^2.
  Eigen::MatrixXd distances(const Eigen::MatrixXd& a,
                            const Eigen::MatrixXd& b,
                            const Eigen::VectorXd& weights) const;

  void add_offsets(Eigen::MatrixXd& kernel, double sign = 1) const;

  Eigen::MatrixXd points_;
  std::vector<char> category_;
  std::vector<int> groups_;
  GpParameters parameters_;
  Eigen::VectorXd weights_;  // 1 / l^2
  Eigen::LLT<Eigen::MatrixXd> factor_;
  Eigen::VectorXd alpha_;
  double jitter_ = 0;
};

}  // namespace nas
