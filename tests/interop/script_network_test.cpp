// SPDX-License-Identifier: Apache-2.0
// Networks and losses that a user wrote in PyTorch, as TorchScript.
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "search_spaces/network_file.h"
#include "tests/interop/interop.h"
#include "tests/support/small_training.h"
#include "tests/support/tensors.h"
#include "training/exchange/export.h"
#include "training/fit/fit.h"
#include "training/fit/losses.h"
#include "training/fit/script_loss.h"
#include "training/model/script_file.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::largest_difference;
using test::random_tensor;
using testing::AllOf;
using testing::HasSubstr;

/// The files of write_scripts.py, made once.
class ScriptNetwork : public testing::Test {
 protected:
  void SetUp() override {
    NAS_PYTHON_OR_SKIP(python);
    if (!test::python_has(python, "torch")) {
      GTEST_SKIP() << "needs PyTorch in the Python environment of scripts/setup.sh";
    }
    ASSERT_TRUE(test::run_logged(
        python.string() + " " + NAS_INTEROP_DIR + "/write_scripts.py " + temp_.path().string(),
        temp_ / "log"));
    ::setenv("VOXNAS_DATA_CACHE", (temp_ / "data_cache").c_str(), 1);
  }
  Graph network(const std::string& name, std::int64_t classes = 3) const {
    return load_network((temp_ / name).string(), {.channels = 1, .classes = classes}).graph;
  }
  test::TempFolder temp_;
};

TEST_F(ScriptNetwork, IsTrainedPausedAndResumedToTheBitWithALossOfOnesOwn) {
  const test::SmallPhantom phantom(temp_.path());
  TrainOptions options = test::small_options(6);
  options.loss = (temp_ / "dice.ts").string();
  options.average_decay = 0.9;
  options.precision = "fp32";
  GraphModule straight(network("unet.ts"));
  const FitReport whole =
      fit(straight, phantom.cache, phantom.ids, options, test::quiet_files(temp_ / "straight"));
  ASSERT_EQ(whole.status, "done");
  EXPECT_LT(whole.losses.back(), whole.losses.front());
  EXPECT_GT(whole.losses.front(), 0.4) << "1 - Dice";

  std::int64_t steps = 0;
  FitHooks pause;
  pause.should_stop = [&] { return steps++ == 2; };
  {
    GraphModule first(network("unet.ts"));
    EXPECT_EQ(
        fit(first, phantom.cache, phantom.ids, options, test::quiet_files(temp_ / "paused"), pause)
            .status,
        "stopped");
  }
  GraphModule second(network("unet.ts"));
  const FitReport rest =
      fit(second, phantom.cache, phantom.ids, options, test::quiet_files(temp_ / "paused"));
  EXPECT_EQ(rest.losses, whole.losses);
  const auto a = straight->named_parameters(), b = second->named_parameters();
  ASSERT_GT(a.size(), 10u);
  for (const auto& item : a) EXPECT_TRUE(item.value().equal(b[item.key()])) << item.key();
  EXPECT_TRUE(a.contains("network.outer.0.weight")) << "the file's own names";
  for (const auto& item : straight->named_buffers()) {
    EXPECT_TRUE(item.value().equal(second->named_buffers()[item.key()])) << item.key();
  }

  // Another loss file is another training.
  fs::copy_file(temp_ / "vector.ts", temp_ / "dice.ts", fs::copy_options::overwrite_existing);
  GraphModule third(network("unet.ts"));
  EXPECT_NE(error_of([&] {
              fit(third, phantom.cache, phantom.ids, options, test::quiet_files(temp_ / "paused"));
            }).find("another training (loss file"),
            std::string::npos);
}

TEST_F(ScriptNetwork, ALossSaysTheSameAsOurs) {
  TrainOptions options;
  options.loss = (temp_ / "dice.ts").string();
  const at::Tensor logits = random_tensor({2, 3, 4, 6, 4}, 1);
  const at::Tensor target = at::randint(0, 3, {2, 4, 6, 4}, at::kShort);
  at::Tensor mine = logits.clone().requires_grad_(true), ours = logits.clone().requires_grad_(true);
  const at::Tensor found = script_loss({mine}, target, options);
  const at::Tensor expected =
      dice_ce_loss(ours, target, {.smooth = 1e-3, .ce_weight = 0, .include_background = true});
  EXPECT_NEAR(found.item<double>(), 1 + expected.item<double>(), 1e-6);
  found.backward();
  expected.backward();
  EXPECT_LT(largest_difference(mine.grad(), ours.grad()), 1e-7);
  EXPECT_THAT(error_of([&] { script_loss({logits}, target - 1, options); }),
              AllOf(HasSubstr("dice.ts"), HasSubstr("ignored voxels")));
  options.loss = (temp_ / "vector.ts").string();
  EXPECT_THAT(error_of([&] { script_loss({logits}, target, options); }),
              AllOf(HasSubstr("vector.ts"), HasSubstr("scalar")));
  options.loss = (temp_ / "none.ts").string();
  EXPECT_THAT(error_of([&] { loss_file_hash(options); }), HasSubstr("none.ts: expected"));
}

TEST_F(ScriptNetwork, ShapesAreProbedAndWhatDoesNotFitIsNamed) {
  Graph graph = network("unet.ts");
  const std::string id = graph_id(graph);
  probe_script(graph, {13, 16, 18});
  EXPECT_EQ(attribute_extent(graph.nodes[1], "multiple"), (Extent3{2, 2, 2}));
  EXPECT_THROW(infer_shapes(graph, {13, 16, 18}), Error);
  EXPECT_EQ(infer_shapes(graph, {14, 16, 18}).back().channels, 3);
  const auto probed = [&](const std::string& name, std::int64_t classes) {
    return error_of([&] {
      Graph other = network(name, classes);
      probe_script(other, {16, 16, 16});
    });
  };
  EXPECT_THAT(probed("unet.ts", 4), AllOf(HasSubstr("1x3x16x16x16"), HasSubstr("K = 4")));
  EXPECT_THAT(probed("small.ts", 3), AllOf(HasSubstr("1x3x8x8x8"), HasSubstr("input's size")));
  EXPECT_THAT(probed("source.ts", 3), AllOf(HasSubstr("source.ts"), HasSubstr("torch.jit.script")));
  EXPECT_EQ(probed("tuple.ts", 3), "");
  fs::create_directory(temp_ / "elsewhere");
  fs::copy_file(temp_ / "unet.ts", temp_ / "elsewhere/unet.ts");
  EXPECT_EQ(graph_id(network("elsewhere/unet.ts")), id) << "where a file lies is not what it is";
  fs::copy_file(temp_ / "tuple.ts", temp_ / "unet.ts", fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_of([&] { GraphModule late(graph); }), HasSubstr("is another file"));
}

TEST_F(ScriptNetwork, IsTrainedByItsNamePredictsAndIsExported) {
  test::write_small_phantom(temp_.path());
  TrainJob job;
  job.data = temp_ / "data";
  job.run_folder = temp_ / "run";
  job.network = (temp_ / "tuple.ts").string();
  job.steps = 3;
  job.base.device = "cpu";
  job.base.precision = "fp32";
  job.options = Json{{"patch", {16, 16, 16}},
                     {"batch", 1},
                     {"mirror", false},
                     {"loss", (temp_ / "dice.ts").string()}}
                    .dump();
  const TrainOutcome outcome = train_network(job);
  EXPECT_FALSE(outcome.held_out.empty()) << "predicted and scored";

  // Moved as a whole, without the file that it came from, the model still runs.
  fs::remove(temp_ / "tuple.ts");
  fs::rename(temp_ / "run/model", temp_ / "moved");
  Model model = load_model(temp_ / "moved");
  model.network->eval();
  const at::NoGradGuard no_grad;
  const at::Tensor image = random_tensor({1, 1, 16, 16, 16}, 3);
  const at::Tensor ours = model.network->forward(image).front();

  export_model(temp_ / "moved", "torchscript", temp_ / "exported.ts");
  torch::jit::Module exported = torch::jit::load((temp_ / "exported.ts").string());
  const at::Tensor theirs = exported.forward({image}).toTensor();
  EXPECT_LT(largest_difference(ours, theirs), 1e-5);
  EXPECT_GT(ours.abs().max().item<double>(), 0.01);
  EXPECT_THAT(error_of([&] { export_model(temp_ / "moved", "onnx", temp_ / "m.onnx"); }),
              HasSubstr("TorchScript file"));
  EXPECT_THAT(error_of([&] { export_model(temp_ / "moved", "pytorch", temp_ / "python"); }),
              HasSubstr("TorchScript file"));
}

}  // namespace
}  // namespace nas
