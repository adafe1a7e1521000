// SPDX-License-Identifier: Apache-2.0
// Super-network and inherited trials, as a search asks for them, over the planned U-Net with open
// operations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/rng.h"
#include "nas/network/safetensors.h"
#include "search_spaces/planned_unet/mixed_unet_space.h"
#include "supernet/super_evaluator.h"
#include "tests/support/small_training.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// A phantom data set, a planned U-Net small enough for it, and an evaluator.
class SuperTrials : public testing::Test {
 protected:
  void prepare(const std::string& norm = "inside") {
    set_log_sink([](LogLevel, const std::string&) {});
    phantom_ = std::make_unique<test::SmallPhantom>(folder_);
    Configuration planned;
    planned.name = "3d_fullres";
    planned.patch = {16, 16, 16};
    planned.batch = 2;
    planned.architecture = test::small_architecture();
    space_ = std::make_unique<MixedUnetSpace>(planned, norm);

    TrainEvaluatorSetup setup;
    setup.space = space_.get();
    setup.configuration = planned;
    setup.preprocessing = phantom_->preprocessing;
    setup.data = &phantom_->data;
    setup.cache = &phantom_->cache;
    Split fold;
    fold.train = phantom_->ids;
    fold.val = {fold.train.back()};
    fold.train.pop_back();
    setup.cases = select_cases(fold, 0.4, 1);
    setup.base.device = "cpu";
    setup.base.threads = 2;
    setup.run_folder = folder_ / "run";
    setup.show_progress = false;
    evaluator_ = std::make_unique<SuperEvaluator>(std::move(setup));
  }

  Trial trial(std::int64_t id, TrialPurpose purpose, const Genotype& genotype) const {
    Trial trial;
    trial.id = id;
    trial.purpose = purpose;
    trial.genotype = genotype;
    trial.genotype_text = space_->to_text(genotype);
    trial.steps = purpose == TrialPurpose::Inherited ? 0 : 8;
    trial.seed = 5;
    return trial;
  }

  Evaluation evaluate(Trial& trial) {
    const TrialPlan plan = evaluator_->plan(trial);
    EXPECT_EQ(plan.steps == 0, trial.purpose == TrialPurpose::Inherited);
    trial.steps = plan.steps;
    trial.settings = plan.settings;
    return evaluator_->evaluate(trial, context(trial.id));
  }

  TrialContext context(std::int64_t id) const {
    TrialContext context;
    context.folder = folder_ / "run" / "trials" / std::to_string(id);
    std::filesystem::create_directories(context.folder);
    context.clock = [] { return 0.0; };
    return context;
  }

  std::vector<Genotype> operations(int count) const {
    Rng rng("operations");
    const Genotype start = space_->start();
    std::vector<Genotype> found{start};
    while (static_cast<int>(found.size()) < count)
      found.push_back(space_->sample(rng, {"operations"}, &start));
    return found;
  }

  test::TempFolder folder_storage_;
  const std::filesystem::path folder_ = folder_storage_.path();
  std::unique_ptr<test::SmallPhantom> phantom_;
  std::unique_ptr<MixedUnetSpace> space_;
  std::unique_ptr<SuperEvaluator> evaluator_;
};

TEST_F(SuperTrials, SinglePathWeightsAreInheritedByCandidatesAndByAWarmStart) {
  prepare();
  Trial super = trial(1, TrialPurpose::SuperNet, space_->start());
  const Evaluation trained = evaluate(super);
  ASSERT_EQ(trained.status, TrialStatus::Done) << trained.message;
  EXPECT_THAT(trained.how, StartsWith("single-path super-network, 8 steps of batch 2"));
  EXPECT_TRUE(trained.decoded.values.empty());
  const std::filesystem::path weights = folder_ / "run/trials/1" / kWeightsFile;
  ASSERT_TRUE(std::filesystem::exists(weights));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run/trials/1/checkpoint.pt"));

  std::vector<Trial> candidates;
  for (const Genotype& genotype : operations(6)) {
    candidates.push_back(
        trial(2 + static_cast<std::int64_t>(candidates.size()), TrialPurpose::Inherited, genotype));
    candidates.back().source = 1;
    const TrialPlan plan = evaluator_->plan(candidates.back());
    EXPECT_EQ(plan.steps, 0);
    candidates.back().settings = plan.settings;
  }
  // One of another width belongs to another super-network: its own failure, nobody else's.
  Genotype wide = space_->start();
  wide.values.back() += 1;
  candidates.push_back(trial(20, TrialPurpose::Inherited, wide));
  candidates.back().source = 1;
  EXPECT_GT(evaluator_->batch_size(candidates.front()), 1);
  EXPECT_EQ(evaluator_->batch_size(super), 1);
  const std::vector<Evaluation> together = evaluator_->evaluate_batch(candidates, context(2));
  ASSERT_EQ(together.size(), candidates.size());
  EXPECT_EQ(together.back().status, TrialStatus::Failed);
  EXPECT_THAT(together.back().message, HasSubstr("another super-network"));
  for (std::size_t i = 0; i + 1 < candidates.size(); ++i) {
    EXPECT_EQ(together[i].status, TrialStatus::Done) << together[i].message;
    EXPECT_THAT(together[i].how,
                StartsWith("inherited weights of trial 1, 16 windows of inner validation"));
    EXPECT_GE(together[i].metrics.at("prefix_saving"), 1);
    const Evaluation alone = evaluator_->evaluate(candidates[i], context(candidates[i].id));
    EXPECT_EQ(alone.score, together[i].score) << "batches must not matter";
    EXPECT_GT(alone.score, 0);
  }
  EXPECT_EQ(together.front().metrics.count("dice/" + phantom_->data.labels.names[1]), 1u);

  // Another process (an evaluator without the network in memory) finds the same.
  const std::vector<Trial> first{candidates[0], candidates[1]};
  SuperEvaluator fresh(evaluator_->trainer().setup());
  EXPECT_EQ(fresh.evaluate(first[1], context(3)).score, together[1].score);

  Trial own = trial(30, TrialPurpose::Search, space_->start());
  own.source = 1;
  const Evaluation warm = evaluate(own);
  ASSERT_EQ(warm.status, TrialStatus::Done) << warm.message;
  const std::size_t at = warm.how.find("warm-started from trial 1: ");
  ASSERT_NE(at, std::string::npos) << warm.how;
  int taken = 0, all = 1;
  ASSERT_EQ(std::sscanf(
                warm.how.c_str() + at, "warm-started from trial 1: %d of %d tensors", &taken, &all),
            2);
  EXPECT_EQ(taken, all) << "a path of the super-network has its names and shapes";
  own.id = 31;
  own.source = 99;
  EXPECT_THROW(evaluator_->evaluate(own, context(31)), Error) << "weights that are not there";
  candidates[0].source = 99;
  EXPECT_THROW(evaluator_->evaluate(candidates[0], context(2)), Error);
}

TEST_F(SuperTrials, DifferentiableDecodesWithinTheLimitAndTellsItsHistory) {
  prepare("after");
  const auto parameters = [&](const Genotype& genotype) {
    return evaluator_->describe(genotype).parameters;
  };
  const std::int64_t all_3d = parameters(space_->start());
  Trial super = trial(1, TrialPurpose::SuperNet, space_->start());
  super.steps = 10;
  super.request = R"({"method": "differentiable", "order": 1, "warmup": 0.3, "merge": "mixed"})";
  const Evaluation free = evaluate(super);
  ASSERT_EQ(free.status, TrialStatus::Done) << free.message;
  EXPECT_EQ(space_->invalid_reason(free.decoded), "");
  EXPECT_THAT(free.how, HasSubstr("branches merged mixed"));
  const Json details = Json::parse(free.details);
  EXPECT_GT(details.at("merged_choices").get<int>(), 0);
  EXPECT_EQ(details.at("decoded"), space_->to_text(free.decoded));
  EXPECT_EQ(details.at("history").back().at("step"), 10);
  EXPECT_EQ(details.at("decisions").size(), details.at("history")[0].at("probabilities").size());

  super.id = 2;
  super.settings.clear();
  super.request = concat_text(
      R"({"method": "differentiable", "merge": "exact", "max_parameters": )", all_3d * 6 / 10, "}");
  const Evaluation limited = evaluate(super);
  ASSERT_EQ(limited.status, TrialStatus::Done) << limited.message;
  EXPECT_LE(parameters(limited.decoded), all_3d * 6 / 10);

  super.id = 3;
  super.settings.clear();
  super.request = R"({"method": "differentiable", "max_parameters": 10})";
  const Evaluation none = evaluate(super);
  EXPECT_EQ(none.status, TrialStatus::Failed);
  EXPECT_THAT(none.message, HasSubstr("at most 10 parameters"));
  super.request = R"({"methd": "differentiable"})";
  EXPECT_THROW(evaluator_->plan(super), Error);
}

TEST_F(SuperTrials, StepsComeFromAMeasuredProbeAndTheClockIsKept) {
  prepare();
  for (const char* request : {"", R"({"method": "differentiable"})"}) {
    Trial super = trial(1, TrialPurpose::SuperNet, space_->start());
    super.request = request;
    super.steps = 0;
    super.seconds_limit = 4;
    const auto start = std::chrono::steady_clock::now();
    const Evaluation evaluation = evaluate(super);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    // How many steps there are, and whether alpha gets one, depends on how busy the machine is.
    ASSERT_TRUE(evaluation.status == TrialStatus::Done || evaluation.status == TrialStatus::Timeout)
        << evaluation.message;
    EXPECT_GE(super.steps, 1);
    if (evaluation.status == TrialStatus::Done) {
      EXPECT_NEAR(evaluation.metrics.at("learning_rate_at_end"), 0, 1e-12)
          << "the clock decides only when the rate begins to fall";
      EXPECT_FALSE(evaluation.metrics.contains("stopped_by_time"));
    }
    EXPECT_LT(spent.count(), 40) << "ten times the time, for busy machines";
    std::filesystem::remove_all(folder_ / "run/trials/1");
  }
  const Probe probe = evaluator_->probe(space_->start(), TrialPurpose::Inherited);
  EXPECT_GT(probe.evaluation_seconds, 0);
  EXPECT_GT(evaluator_->probe(space_->start(), TrialPurpose::SuperNet).step_seconds, 0);
  EXPECT_GT(evaluator_->step_seconds(space_->start()), 0);
}

}  // namespace
}  // namespace nas
