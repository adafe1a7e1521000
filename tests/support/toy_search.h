// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/search/run_search.h"
#include "nas/search/search_space.h"

namespace nas::test {

/// Three small integers; the optimum is (3, 1, 2), the baseline (0, 0, 0), and (4, 4, *) is
/// invalid.
class ToySpace : public SearchSpace {
 public:
  std::string name() const override { return "toy"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& g) const override {
    if (g.values.size() != genes_.size()) return "expected three genes";
    return g.values[0] == 4 && g.values[1] == 4 ? "width and depth cannot both be largest" : "";
  }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override { return {{0, 0, 0}}; }
  Json describe() const override { return {{"name", "toy"}}; }

 private:
  std::vector<Gene> genes_{{"width", "scale", {"0", "1", "2", "3", "4"}},
                           {"depth", "topology", {"0", "1", "2", "3", "4"}},
                           {"kind", "operations", {"a", "b", "c"}}};
};

/// What a database needs to hold a run whose space and data nobody asks for.
inline RunRecord small_record(const Budget& budget, std::uint64_t seed = 1) {
  RunRecord run;
  run.recipe_json = run.plan_json = run.space_json = run.setup_json = "{}";
  run.budget = budget;
  run.seed = seed;
  return run;
}

inline double toy_quality(const Genotype& g) {
  return 1.0 - 0.05 * std::abs(g.values[0] - 3) - 0.04 * std::abs(g.values[1] - 1) -
         0.03 * std::abs(g.values[2] - 2);
}

/// Genes of every kind: choice, real (even and log), integer (even and log), and one that is active
/// for some choices only.
class MixedSpace : public SearchSpace {
 public:
  std::string name() const override { return "mixed"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& g) const override { return malformed_reason(g); }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override {
    Genotype planned;
    for (const Gene& gene : genes_) planned.values.push_back(gene.planned);
    return planned;
  }
  Json describe() const override { return {{"name", "mixed"}}; }

 private:
  static Gene number(std::string name, Gene::Kind kind, double lo, double hi, bool log) {
    Gene gene{std::move(name), "training", {}};
    gene.kind = kind;
    gene.lo = lo;
    gene.hi = hi;
    gene.log = log;
    return gene;
  }
  static std::vector<Gene> make() {
    std::vector<Gene> genes{{"optimizer", "training", {"adamw", "sgd", "novograd"}},
                            number("learning_rate", Gene::Kind::Real, 1e-5, 0.1, true),
                            number("dropout", Gene::Kind::Real, 0, 0.5, false),
                            number("layers", Gene::Kind::Integer, 1, 8, false),
                            number("width", Gene::Kind::Integer, 8, 512, true),
                            number("momentum", Gene::Kind::Real, 0.5, 0.99, false)};
    genes[1].planned = genes[1].index("0.001").value();
    genes[4].planned = genes[4].index("32").value();
    genes[5].parent = 0;
    genes[5].active_for = {1};
    genes[5].planned = genes[5].index("0.9").value();
    return genes;
  }
  std::vector<Gene> genes_ = make();
};

/// Best, 1, with sgd, learning rate 0.01, dropout 0.1, 5 layers, width 64 and momentum 0.95.
inline double mixed_quality(const SearchSpace& space, const Genotype& g) {
  const std::vector<Gene>& genes = space.genes();
  const auto number = [&](std::size_t i) { return genes[i].value(g.values[i]); };
  double loss = g.values[0] == 1 ? 0 : g.values[0] == 0 ? 0.05 : 0.15;
  loss += 0.03 * std::pow(std::log10(number(1)) + 2, 2);
  loss += 0.8 * std::pow(number(2) - 0.1, 2);
  loss += 0.01 * std::abs(number(3) - 5);
  loss += 0.02 * std::pow(std::log2(number(4)) - 6, 2);
  if (space.active(g, 5)) loss += 0.5 * std::abs(number(5) - 0.95);
  return 1 - loss;
}

/// Scores genotypes by toy_quality and the number of steps, without training. "Trains" step by step
/// with a checkpoint file after each, so that a killed process leaves a trial half done. Genotypes
/// of `failures` end as told.
class FakeEvaluator : public Evaluator {
 public:
  std::map<Genotype, TrialStatus> failures;
  double step_seconds = 0;  // what a step costs on `now`
  double evaluation_seconds = 0;
  double slower = 1;                     // real steps cost this much more than probed ones
  int sleep_us = 0;                      // real time a step takes
  double now = 0;                        // the fake clock, advanced by evaluate
  std::filesystem::path log;             // "step <trial> <step>" lines
  std::vector<std::string> leaves = {};  // files in the folder of every trial
  std::int64_t stop_after = -1;          // steps until the user "presses Ctrl-C"

  TrialCost describe(const Genotype& g) override {
    NAS_CHECK(!(g.values[0] == 2 && g.values[1] == 2), "toy: (2, 2) cannot be built");
    return {"graph" + std::to_string(g.values[0]), 1000 + g.values[0], 5000 + g.values[1], 64};
  }
  Probe probe(const Genotype&, TrialPurpose) override {
    now += 1;
    return {step_seconds, evaluation_seconds, 1};
  }
  TrialPlan plan(const Trial& trial) override {
    if (trial.steps > 0) return {trial.steps, R"({"clock": false})"};
    return {steps_in(trial.seconds_limit, {step_seconds, evaluation_seconds, 0}),
            R"({"clock": true})"};
  }
  Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
    Evaluation e;
    e.how = "fake";
    for (const std::string& file : leaves) {
      std::filesystem::create_directories((context.folder / file).parent_path());
      std::ofstream(context.folder / file) << "content";
    }
    if (const auto failure = failures.find(trial.genotype); failure != failures.end()) {
      e.status = failure->second;
      e.message = "as told";
      return e;
    }
    describe(trial.genotype);
    const std::filesystem::path checkpoint = context.folder / "steps";
    std::int64_t done = 0;
    if (std::ifstream in(checkpoint); in) in >> done;
    while (done < trial.steps) {
      if (stop_after == 0) {
        e.status = TrialStatus::Stopped;
        return e;
      }
      if (stop_after > 0) --stop_after;
      if (sleep_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(sleep_us));
      now += step_seconds * slower;
      ++done;
      if (!log.empty())
        std::ofstream(log, std::ios::app) << "step " << trial.id << ' ' << done << '\n';
      const std::filesystem::path temporary = checkpoint.string() + ".new";
      std::ofstream(temporary) << done;
      std::filesystem::rename(temporary, checkpoint);
    }
    now += evaluation_seconds;
    Rng noise = Rng(trial.seed).split("noise", trial.genotype.values[0], trial.genotype.values[1]);
    e.status = TrialStatus::Done;
    e.steps = done;
    e.score =
        toy_quality(trial.genotype) - 1.0 / static_cast<double>(10 + done) + 0.01 * noise.normal();
    if (trial.purpose == TrialPurpose::Retrain) e.details = details(e.score, noise);
    e.metrics = {{"loss", 1 - e.score}};
    return e;
  }

 private:
  /// Twelve cases of one class in the form of metrics_json; one case has nothing to find.
  static std::string details(double score, Rng& noise) {
    Json cases = Json::array();
    for (int i = 0; i < 12; ++i) {
      Json dice = i == 11 ? Json(nullptr) : Json(score - 0.01 * i + 0.002 * noise.uniform());
      cases.push_back(
          {{"id", "case_" + std::to_string(i)},
           {"classes", {{{"label", "a<b>"}, {"dice", dice}, {"hd95_mm", 2.5}, {"nsd", 0.9}}}}});
    }
    return Json{{"cases", cases},
                {"mean", {{{"label", "a<b>"}, {"dice", score}, {"hd95_mm", 2.5}, {"nsd", 0.9}}}}}
        .dump();
  }
};

/// Writes what listeners hear as text: the golden transcript.
class Transcript : public SearchListener {
 public:
  std::string text;
  void stage_started(const StageSpec& s,
                     const StageBudget& b,
                     const Genotype&,
                     std::int64_t planned) override {
    text += concat_text(
        "stage ", s.name, ": ", planned, " trials, ", b.rungs, " rungs, ", b.steps, " steps\n");
  }
  void trial_ended(const Trial& t) override {
    char score[32] = "-";
    if (t.status == TrialStatus::Done)
      std::snprintf(score, sizeof score, "%.4f", t.evaluation.score);
    text += concat_text("  ",
                        t.id,
                        " rung ",
                        t.rung,
                        " ",
                        t.genotype_text,
                        " ",
                        t.steps,
                        " steps ",
                        to_text(t.status),
                        " ",
                        score,
                        t.label.empty() ? "" : " " + t.label,
                        "\n");
  }
  void best_improved(const Trial& t) override { text += concat_text("  best is ", t.id, "\n"); }
  void stage_ended(const StageSpec& s, const Winner&) override { text += "end " + s.name + "\n"; }
};

}  // namespace nas::test
