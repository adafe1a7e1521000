// SPDX-License-Identifier: Apache-2.0
#include "nas/search/log_listener.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"

namespace nas {
namespace {

std::string score_text(const char* what, double score) {
  if (!std::isfinite(score)) return "not scored";
  char text[48];
  std::snprintf(text, sizeof text, "%s %.4f", what, score);
  return text;
}

class LogListener : public SearchListener {
 public:
  LogListener(const SearchSpace& space, std::function<double()> clock)
      : space_(space), clock_(std::move(clock)) {}

  void search_started(const SearchSpace&, const Recipe& recipe) override {
    by_dice_ = recipe.metric == Recipe{}.metric;
  }

  void stage_started(const StageSpec& stage,
                     const StageBudget& budget,
                     const Genotype& start,
                     std::int64_t planned) override {
    scored_ = 0;
    start_ = start;
    log_info(stamp(),
             "stage ",
             stage.name,
             ": ",
             planned,
             stage.kind->final ? " final training(s)" : " trials",
             budget.seconds > 0 ? " in " + format_duration(budget.seconds) : "",
             stage.kind->final ? "" : ", from " + space_.short_text(start));
  }

  void trial_started(const Trial& trial) override {
    if (trial.purpose == TrialPurpose::Inherited) return;
    std::string what = concat_text("trial ", trial.id, " (rung ", trial.rung, ")");
    if (trial.purpose == TrialPurpose::Retrain) what = "final training of the " + trial.label;
    if (trial.purpose == TrialPurpose::SuperNet)
      what = concat_text("trial ", trial.id, " (super-network)");
    log_info(stamp(),
             what,
             ": ",
             text_of(trial),
             ", ",
             format_count(static_cast<double>(trial.parameters)),
             " parameters",
             trial.attempt > 1 ? concat_text(", attempt ", trial.attempt) : "");
  }

  void trial_ended(const Trial& trial) override {
    const Evaluation& e = trial.evaluation;
    const bool done = trial.status == TrialStatus::Done;
    if (trial.purpose == TrialPurpose::Inherited) {
      ++scored_;
      if (!done || (scored_ > 1 && e.score <= best_scored_)) return;
      best_scored_ = e.score;
      log_info(stamp(),
               "  candidate ",
               scored_,
               ": ",
               score_text("Dice", e.score),
               ", ",
               text_of(trial));
      return;
    }
    log_info(stamp(),
             "  ",
             done
                 ? score_text(by_dice_ || trial.purpose == TrialPurpose::Retrain ? "Dice" : "score",
                              e.score)
                 : to_text(trial.status),
             e.how.empty() ? "" : ", " + e.how,
             ", ",
             format_duration(e.seconds),
             e.message.empty() ? "" : " (" + e.message + ")");
  }

  void best_improved(const Trial& trial) override {
    log_info(stamp(), "  best of this stage so far: trial ", trial.id);
  }

  void stage_ended(const StageSpec& stage, const Winner& winner) override {
    if (!winner.found) return;
    log_info(stamp(),
             "stage ",
             stage.name,
             " chose ",
             space_.short_text(winner.genotype),
             ": ",
             winner.how);
  }

 private:
  /// Final trainings stand for themselves, the others for what they change.
  std::string text_of(const Trial& trial) const {
    const bool whole = trial.purpose == TrialPurpose::Retrain;
    const bool against_start = !whole && !start_.values.empty();  // a worker begins in between
    return space_.short_text(trial.genotype, against_start ? &start_ : nullptr);
  }

  std::string stamp() const {
    const double seconds = clock_();
    if (seconds <= 0) return "";
    char text[32];
    std::snprintf(text,
                  sizeof text,
                  "[%3d:%02d] ",
                  static_cast<int>(seconds / 60),
                  static_cast<int>(seconds) % 60);
    return text;
  }

  const SearchSpace& space_;
  std::function<double()> clock_;
  Genotype start_;           // of this stage
  std::int64_t scored_ = 0;  // of this stage, with inherited weights
  double best_scored_ = 0;
  bool by_dice_ = true;
};

}  // namespace

std::unique_ptr<SearchListener> make_log_listener(const SearchSpace& space,
                                                  std::function<double()> clock) {
  return std::make_unique<LogListener>(space, std::move(clock));
}

}  // namespace nas
