// SPDX-License-Identifier: Apache-2.0
#include "training/mirror_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/imaging/metrics.h"
#include "training/fit/fit.h"
#include "training/inner_score.h"

namespace nas {
namespace {

/// Scores of the judging cases after a short training; none if its loss or output was not finite.
std::vector<CaseMetrics> short_training(const Graph& graph,
                                        const CaseCache& cache,
                                        const InnerSplit& cases,
                                        const TrainOptions& options,
                                        bool show_progress) {
  GraphModule network(graph, options.seed);
  FitFiles files;
  files.tensorboard = false;
  files.show_progress = show_progress;
  files.label = options.mirror ? "short training with mirroring" : "short training without";
  const FitReport report = fit(network, cache, cases.training, options, files);
  NAS_CHECK_KIND(
      Stopped, report.status != "stopped", "stopped while mirroring was tried; start again");
  if (report.status != "done") return {};
  try {
    return score_cached_cases(
        network, cache, cases.validation, options.patch, predict_options(options));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::NotFinite) throw;
    return {};
  }
}

std::optional<double> dice_of(const CaseMetrics& one) {
  return mean_metrics({&one, 1}).foreground.dice;
}

/// Of the mean difference of cases that have a Dice in both; 0 if there are fewer than two.
double standard_error(const std::vector<CaseMetrics>& a, const std::vector<CaseMetrics>& b) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const auto x = dice_of(a[i]), y = dice_of(b[i]);
    if (x && y) differences.push_back(*x - *y);
  }
  const auto n = static_cast<double>(differences.size());
  if (n < 2) return 0;
  double mean = 0, squares = 0;
  for (const double one : differences) mean += one / n;
  for (const double one : differences) squares += (one - mean) * (one - mean);
  return std::sqrt(squares / (n * (n - 1)));
}

}  // namespace

Json to_json(const MirrorCheck& check) {
  return {{"mirror", check.mirror},
          {"steps", check.steps},
          {"inner_validation_cases", check.cases},
          {"dice_with", check.with},
          {"dice_without", check.without},
          {"standard_error", check.standard_error},
          {"reason", check.reason}};
}

std::optional<std::int64_t> mirror_check_steps(std::int64_t steps,
                                               std::int64_t batch,
                                               std::int64_t check_batch) {
  const double samples = kMirrorCheckShare * static_cast<double>(steps * batch);
  const auto each = static_cast<std::int64_t>(samples / static_cast<double>(2 * check_batch));
  if (each < kFewestCheckSteps) return std::nullopt;
  return std::min(each, kMostCheckSteps);
}

MirrorCheck check_mirroring(const Graph& graph,
                            const CaseCache& cache,
                            const InnerSplit& cases,
                            const TrainOptions& options,
                            std::int64_t steps,
                            bool show_progress) {
  NAS_CHECK_KIND(Internal,
                 steps > 0 && !cases.training.empty() && !cases.validation.empty(),
                 "mirror check: expected steps and cases, found ",
                 steps,
                 " steps, ",
                 cases.training.size(),
                 " and ",
                 cases.validation.size(),
                 " cases");
  TrainOptions one = options;
  one.steps = steps;
  one.average_decay = 0;
  one.mirror = false;
  const auto without = short_training(graph, cache, cases, one, show_progress);
  one.mirror = true;
  const auto with = short_training(graph, cache, cases, one, show_progress);

  MirrorCheck check;
  check.steps = steps;
  check.cases = static_cast<std::int64_t>(cases.validation.size());
  check.with = mean_metrics(with).foreground.dice.value_or(0);
  check.without = mean_metrics(without).foreground.dice.value_or(0);
  check.standard_error = standard_error(with, without);
  const double difference = check.with - check.without;
  check.mirror = difference >= -kMirrorTolerance;
  char text[200];
  std::snprintf(text,
                sizeof text,
                "mirroring %s: Dice %.3f with it, %.3f without (%lld steps each, %lld inner "
                "validation case%s, difference %+.3f, standard error %.3f)",
                check.mirror ? "stays on" : "is switched off",
                check.with,
                check.without,
                static_cast<long long>(check.steps),
                static_cast<long long>(check.cases),
                check.cases == 1 ? "" : "s",
                difference,
                check.standard_error);
  check.reason = text;
  return check;
}

}  // namespace nas
