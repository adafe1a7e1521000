// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/rng.h"

namespace nas {

/// A score that a training had on its way. Effort is compute in training steps of the plan at
/// batch 2, as everywhere in a search.
struct CurvePoint {
  double effort = 0;               // of the whole training so far, > 0
  double score = 0;                // higher is better, at most 1 (Dice)
  std::vector<double> cases = {};  // score of each case, in one order for all curves; NaN where a
                                   // case has none; empty: not known
};

/// The training of one contestant.
struct LearningCurve {
  std::vector<CurvePoint> points;  // one at least, by effort
  double relative_cost = 1;        // effort of one of its steps
  double shift = 0;  // what is known beforehand of its final score against that of the others
};

/// What learning curves look like, before any is seen. Score after n steps: c - a (n / 100)^-b.
/// "of a group" is what the contestants of one race share (the data set's part), "spread" how they
/// differ from that. All logs natural. `curves prior FILE...` prints beside them what recorded curves
/// tell (experiments/curves/learnt_prior.h): deficit, exponent and size_effect are near that, and a
/// test holds them there. What says how much networks and looks differ is wider than the one recorded
/// data set shows: with its figures the race trusts too much what it sees and loses more in replays.
struct CurvePrior {
  double deficit = 0.03, deficit_log_sd = 1.2;   // a of a group: distance from c after 100 steps
  double exponent = 0.9, exponent_log_sd = 0.5;  // b of a group
  double deficit_spread = 0.5, exponent_spread = 0.3;  // of log a and log b within a group
  double final_spread = 0.02;                          // of c within a group
  double size_effect = 0.003;                          // of doubling the cost of a step, on c
  double odd_share = 0.2, odd_factor = 4;              // so many contestants differ by so much more
  double wobble = 0.003;  // of a score from one look at a training to the next, beside the cases
  double misfit = 0.15;   // no curve is a power law: this part of a (n / 100)^-b
  double lasting = 0.7;   // part of the variance between cases that a contestant keeps for good
  double case_sd = 0.05;  // of a case's score against what others have on it, where nothing tells
  double finish_sd = 0.001;  // what the end of a training (rate to 0) does to one network more than
                             // to another
};

/// Where the curves lead. Vectors have one value a curve.
struct Extrapolation {
  std::vector<double> mean, sd;  // of the score at the horizon
  std::vector<double> best;      // probability of having the highest score of all
  /// Probability of being at most `margin` below the one with the highest mean. Against the highest
  /// of every draw instead, none of many equal ones would have a chance.
  std::vector<double> within;
  std::vector<double> loss;   // expected distance from the highest
  std::vector<double> slope;  // d score / d log effort at the horizon
  /// How much better than the highest mean the choice would be if all curves were known to their
  /// ends on these cases: what going on can bring at most.
  double gain = 0;
  /// Scores at the horizon drawn jointly from what is known, [draw][curve].
  std::vector<std::vector<double>> draws;
};

/// Continues all curves to the same effort. What cases have in common does not count: a curve's
/// own uncertainty comes from how its cases differ from the median of all curves on the same case.
/// A posterior over a grid of (a, b) of the group and of each curve, c in closed form; the draws
/// come from `rng` alone, so equal arguments give equal results.
/// \param horizon effort of the final training, > 0.
/// \throws Error(Internal) if there is no curve or one without points.
Extrapolation extrapolate(const std::vector<LearningCurve>& curves,
                          double horizon,
                          double margin,
                          const CurvePrior& prior,
                          Rng rng,
                          int draws = 2000);

/// Logarithm of how probable the scores of these curves are, up to a constant: what a prior is learnt
/// by (experiments/curves/learnt_prior.h). \throws as extrapolate.
double log_evidence(const std::vector<LearningCurve>& curves, const CurvePrior& prior);

/// What the cost of a network's steps alone tells of its score at the horizon, up to a constant of
/// the data set: few steps of a costly network fall short by more than its size gains.
/// \param relative_cost effort of a step, > 0. \param horizon effort, > 0.
double expected_score(const CurvePrior& prior, double relative_cost, double horizon);

/// Variance of a curve's score that comes from having only these cases, at point `k` of each curve
/// (its last one where it has fewer): of the differences from the median over curves on each case.
/// \returns one value a curve; prior.case_sd^2 / cases where there is nothing to compare with.
std::vector<double> case_variances(const std::vector<LearningCurve>& curves,
                                   std::size_t k,
                                   const CurvePrior& prior);

}  // namespace nas
