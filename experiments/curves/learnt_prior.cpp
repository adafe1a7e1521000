// SPDX-License-Identifier: Apache-2.0
#include "experiments/curves/learnt_prior.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

constexpr double kFirstSteps = 20;  // before, a training says nothing (kSmallestTraining)

struct Figure {
  const char* name;
  double CurvePrior::*value;
  double believed;  // before any curve was recorded
};
constexpr Figure kByEvidence[] = {{"deficit", &CurvePrior::deficit, 0.03},
                                  {"exponent", &CurvePrior::exponent, 0.9},
                                  {"deficit_spread", &CurvePrior::deficit_spread, 0.5},
                                  {"exponent_spread", &CurvePrior::exponent_spread, 0.3},
                                  {"final_spread", &CurvePrior::final_spread, 0.02},
                                  {"size_effect", &CurvePrior::size_effect, 0.003},
                                  {"wobble", &CurvePrior::wobble, 0.003},
                                  {"misfit", &CurvePrior::misfit, 0.15}};
// Standard deviation of that belief, of logarithms: one data set shall not make sure of what others
// may show to be otherwise.
constexpr double kDoubt = 0.4;
constexpr double kSteps[] = {1.5, 1.2, 1.05};  // factors, the coarsest first

double two_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return std::stod(text);
}

std::vector<LearningCurve> curves_of(const CurveTable& table) {
  std::vector<LearningCurve> curves;
  for (const RecordedNetwork& network : table.networks) {
    LearningCurve curve;
    curve.relative_cost = network.relative_cost;
    for (const RecordedPoint& point : network.curve) {
      if (point.steps < kFirstSteps) continue;
      curve.points.push_back({point.effort, mean_score(point.inner), point.inner});
    }
    if (!curve.points.empty()) curves.push_back(std::move(curve));
  }
  return curves;
}

/// Differences of a network's cases from the median network, at a share of each one's last effort.
std::vector<std::vector<double>> case_differences(const CurveTable& table, double share) {
  std::vector<std::vector<double>> scores;
  for (const RecordedNetwork& network : table.networks) {
    scores.push_back(inner_scores(network, share * network.curve.back().effort));
  }
  for (std::size_t j = 0; j < table.inner_cases.size(); ++j) {
    std::vector<double> column;
    for (const std::vector<double>& own : scores) {
      if (std::isfinite(own[j])) column.push_back(own[j]);
    }
    const double middle = column.empty() ? 0 : median(column);
    for (std::vector<double>& own : scores) own[j] -= middle;
  }
  return scores;
}

double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> a, b;
  for (std::size_t j = 0; j < x.size(); ++j) {
    if (!std::isfinite(x[j]) || !std::isfinite(y[j])) continue;
    a.push_back(x[j]);
    b.push_back(y[j]);
  }
  const double mean_a = mean(a), mean_b = mean(b);
  double both = 0, of_a = 0, of_b = 0;
  for (std::size_t j = 0; j < a.size(); ++j) {
    both += (a[j] - mean_a) * (b[j] - mean_b);
    of_a += (a[j] - mean_a) * (a[j] - mean_a);
    of_b += (b[j] - mean_b) * (b[j] - mean_b);
  }
  return of_a > 0 && of_b > 0 ? both / std::sqrt(of_a * of_b) : 0;
}

/// case_sd and lasting into `prior`.
void learn_cases(const std::vector<CurveTable>& tables, CurvePrior& prior) {
  std::vector<double> deviations, correlations;
  for (const CurveTable& table : tables) {
    const auto last = case_differences(table, 1), half = case_differences(table, 0.5);
    for (std::size_t i = 0; i < last.size(); ++i) {
      std::vector<double> finite;
      std::ranges::copy_if(
          last[i], std::back_inserter(finite), [](double v) { return std::isfinite(v); });
      if (finite.size() < 2 || i == table.plan) continue;
      deviations.push_back(standard_deviation(finite));
      correlations.push_back(correlation(last[i], half[i]));
    }
  }
  NAS_CHECK(!deviations.empty(), "curves: expected networks with two inner cases or more");
  prior.case_sd = two_digits(mean(deviations));
  prior.lasting = two_digits(std::clamp(mean(correlations), 0.0, 0.99));
}

}  // namespace

std::vector<LearntFigure> learn_prior(const std::vector<CurveTable>& tables) {
  NAS_CHECK_KIND(Usage, !tables.empty(), "curves prior: expected files of recorded curves");
  CurvePrior prior;
  learn_cases(tables, prior);
  std::vector<std::vector<LearningCurve>> curves;
  for (const CurveTable& table : tables) curves.push_back(curves_of(table));
  const auto evidence = [&](const CurvePrior& of) {
    double sum = 0;
    for (const auto& group : curves) sum += log_evidence(group, of);
    for (const Figure& figure : kByEvidence) {
      const double away = std::log(of.*figure.value / figure.believed) / kDoubt;
      sum -= 0.5 * away * away;
    }
    return sum;
  };
  for (const Figure& figure : kByEvidence) prior.*figure.value = figure.believed;
  double best = evidence(prior);
  for (const double step : kSteps) {
    for (bool better = true; better;) {
      better = false;
      for (const Figure& figure : kByEvidence) {
        for (const double factor : {step, 1 / step}) {
          CurvePrior other = prior;
          other.*figure.value = prior.*figure.value * factor;
          const double found = evidence(other);
          if (found <= best + 1e-3) continue;
          best = found;
          prior = other;
          better = true;
        }
      }
    }
  }
  const CurvePrior in_use;
  std::vector<LearntFigure> figures;
  for (const Figure& figure : kByEvidence) {
    figures.push_back({figure.name,
                       in_use.*figure.value,
                       two_digits(prior.*figure.value),
                       "most probable curves"});
  }
  figures.push_back({"case_sd", in_use.case_sd, prior.case_sd, "cases against the median network"});
  figures.push_back({"lasting", in_use.lasting, prior.lasting, "the same at half the effort"});
  return figures;
}

std::string prior_markdown(const std::vector<CurveTable>& tables,
                           const std::vector<LearntFigure>& figures) {
  std::vector<std::string> data;
  std::size_t networks = 0;
  for (const CurveTable& table : tables) {
    data.push_back(table.data);
    networks += table.networks.size();
  }
  std::string text = concat_text(networks,
                                 " networks on ",
                                 joined(data),
                                 "\n\n| figure | in use | learnt | from |\n|---|---:|---:|---|\n");
  for (const LearntFigure& figure : figures) {
    text += concat_text(
        "| ", figure.name, " | ", figure.in_use, " | ", figure.learnt, " | ", figure.how, " |\n");
  }
  return text;
}

}  // namespace nas
