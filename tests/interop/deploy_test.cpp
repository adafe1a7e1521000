// SPDX-License-Identifier: Apache-2.0
// The programs of experiments/deploy give what `voxnas predict` gives.
#include <algorithm>
#include <iostream>

#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "nas/imaging/phantom.h"
#include "search_spaces/planned_unet/unet.h"
#include "tests/interop/interop.h"
#include "training/data/sliding_window.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// A small network of random weights, which marks all of its classes; voxel sizes other than the
/// phantom's and axes in another order, so that every step of the way back counts.
Model some_model() {
  Model model;
  model.network = GraphModule(make_unet({.in_channels = 1,
                                         .classes = 3,
                                         .features = {4, 8, 8},
                                         .strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}},
                                         .kernels = {{3, 3, 3}, {3, 3, 3}, {3, 3, 3}},
                                         .blocks = {1, 1, 1},
                                         .decoder_convs = {1, 1}}),
                              5);
  Preprocessing& p = model.preprocessing;
  p.configuration = "3d_fullres";
  p.transpose_forward = {1, 0, 2};
  p.transpose_backward = {1, 0, 2};
  p.spacing = {1.2, 0.9, 1};
  p.patch = {16, 24, 16};
  p.normalization = {"ZScoreNormalization"};
  p.use_mask_for_norm = {false};
  p.intensity.resize(1);
  p.channel_names = {"MRI"};
  p.labels.names = {"background", "one", "two"};
  return model;
}

TEST(Deploy, SegmentsAPhantomAsPredictDoes) {
  const test::TempFolder temp;
  Model model = some_model();
  save_model(temp / "model", model);
  const Image image = make_phantom_case({.size = {26, 30, 22}}, 0).image;
  const fs::path file = temp / "case.nii.gz";
  write_nifti(file, image);
  const auto segmented = [&](const std::string& program, const std::string& network) {
    const fs::path out = temp / "out.nii.gz";
    fs::remove(out);
    const std::string command =
        program + " " + (temp / network).string() + " " + file.string() + " " + out.string();
    return test::run_logged(command, temp / "log") ? read_nifti_label(out) : LabelMap{};
  };
  const LabelMap expected = segmented(NAS_VOXNAS " predict --precision fp32", "model");
  for (const std::int16_t label : {0, 1, 2}) {
    EXPECT_GT(std::ranges::count(expected.voxels, label), 50) << label;
  }
  EXPECT_EQ(test::disagreement(segmented(NAS_SEGMENT, "model"), expected), 0);
#ifdef NAS_SEGMENT_ONNX
  // Another library's sums decide where two classes are equal up to rounding.
  EXPECT_LT(test::disagreement(segmented(NAS_SEGMENT_ONNX, "model/model.onnx"), expected), 1e-3);
#else
  std::cout << "segment_onnx is not built here (no onnxruntime_c_api.h)\n";
#endif
}

TEST(Deploy, ThePlainSlidingWindowEqualsTheStreamedOne) {
  for (const bool unpadded : {false, true}) {
    Model model = some_model();
    if (unpadded) {
      Graph graph;
      int x = graph.add("input", "image", {}, {{"channels", std::int64_t{1}}});
      for (const char* name : {"a", "b"}) {
        x = graph.add("conv",
                      name,
                      {x},
                      {{"out_channels", std::int64_t{3}},
                       {"kernel", std::int64_t{3}},
                       {"padding", std::int64_t{0}}});
      }
      graph.add("output", "seg", {x});
      model.network = GraphModule(graph, 7);
    }
    model.network->eval();
    const Image image = make_phantom_case({.size = {26, 30, 22}, .seed = 2}, 0).image;
    const LabelMap expected = predict_image(model, image, {.device = "cpu", .precision = "fp32"});
    const PreprocessedCase input = preprocess_case(image, nullptr, model.preprocessing);
    const auto [d, h, w] = model.preprocessing.patch;
    const LabelMap found = segment_windows(
        input, model.preprocessing, [&, d = d, h = h, w = w](std::vector<float>& window) {
          const at::NoGradGuard no_grad;
          const at::Tensor logits =
              model.network->forward(torch::from_blob(window.data(), {1, 1, d, h, w}))
                  .front()
                  .contiguous();
          const float* first = logits.const_data_ptr<float>();
          return WindowLogits{{first, first + logits.numel()},
                              {logits.size(2), logits.size(3), logits.size(4)}};
        });
    EXPECT_LT(test::disagreement(found, expected), 1e-4) << unpadded;
    EXPECT_GT(test::foreground(found), 0);

    EXPECT_THROW(segment_windows(input,
                                 model.preprocessing,
                                 [&](std::vector<float>&) {
                                   return WindowLogits{{0, 0, 0}, model.preprocessing.patch};
                                 }),
                 Error);
  }
}

}  // namespace
}  // namespace nas
