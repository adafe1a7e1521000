// SPDX-License-Identifier: Apache-2.0
// What leaves the house gives the same numbers elsewhere: ONNX in onnxruntime, TorchScript and the
// generated source in PyTorch's Python (check_exports.py), TorchScript in C++.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/script.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/rng.h"
#include "nas/network/graph.h"
#include "nas/network/onnx.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/reference_networks/reference_networks.h"
#include "search_spaces/spaces.h"
#include "tests/support/support.h"
#include "training/exchange/export.h"
#include "training/model/model_folder.h"
#include "training/model/weights.h"

namespace nas {
namespace {

using test::error_of;

namespace fs = std::filesystem;

at::Tensor random_tensor(at::IntArrayRef shape, std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::randn(shape, generator, at::kFloat);
}

/// A model of `graph` whose every tensor matters: biases, slopes and running statistics are not the
/// values that a new network has.
Model model_of(const Graph& graph, std::uint64_t seed = 3) {
  Model model;
  model.network = GraphModule(graph, seed);
  const at::NoGradGuard no_grad;
  std::uint64_t stream = seed;
  for (const auto& list : {model.network->named_parameters(), model.network->named_buffers()}) {
    for (const auto& item : list) {
      at::Tensor tensor = item.value();
      if (tensor.dim() > 1) continue;  // kernels
      const at::Tensor noise = random_tensor(tensor.sizes(), ++stream);
      if (item.key().ends_with("running_var")) {
        tensor.copy_(noise.abs().add(0.5));
      } else {
        tensor.add_(noise, 0.1);
      }
    }
  }
  model.network->eval();
  const std::vector<std::int64_t> channels = channel_counts(graph);
  const auto inputs =
      static_cast<std::size_t>(channels[static_cast<std::size_t>(graph.input_nodes().front())]);
  const auto classes =
      static_cast<std::size_t>(channels[static_cast<std::size_t>(graph.output_nodes().front())]);
  Preprocessing& p = model.preprocessing;
  p.configuration = "3d_fullres";
  p.patch = {16, 16, 16};
  p.normalization.assign(inputs, "ZScoreNormalization");
  p.use_mask_for_norm.assign(inputs, false);
  p.intensity.resize(inputs);
  p.channel_names.assign(inputs, "MRI");
  for (std::size_t k = 0; k < classes; ++k) p.labels.names.push_back("label" + std::to_string(k));
  return model;
}

/// Writes one network in every form, with inputs of the given sizes and what VoxNAS makes of them.
void write_case(const fs::path& folder, const Graph& graph, const std::vector<Extent3>& sizes) {
  const Model model = model_of(graph);
  fs::create_directories(folder / "pytorch");
  write_model_onnx(model, folder / "model.onnx");
  check_onnx(folder / "model.onnx");
  export_format("torchscript").write(model, folder / "model.ts");
  export_format("pytorch").write(model, folder / "pytorch");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> kept;
  std::map<std::string, TensorView, std::less<>> views;
  const auto keep = [&](const std::string& name, const at::Tensor& tensor) {
    kept.push_back(tensor.contiguous());
    views[name] =
        view_floats({kept.back().const_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())},
                    tensor.sizes().vec());
  };
  GraphModule network = model.network;
  torch::jit::Module script = torch::jit::load((folder / "model.ts").string());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Extent3& s = sizes[i];
    const auto batch = static_cast<std::int64_t>(i) + 1;
    const auto channels = static_cast<std::int64_t>(model.preprocessing.normalization.size());
    const at::Tensor image = random_tensor({batch, channels, s[0], s[1], s[2]}, 11 + i);
    // Our own kernels sum in another order: exports are held against LibTorch's operators closely,
    // and our kernels against both.
    network->set_fused(true);
    const at::Tensor fused = network->forward(image).front();
    network->set_fused(false);
    const at::Tensor pred = network->forward(image).front();
    keep("image." + std::to_string(i), image);
    keep("pred." + std::to_string(i), pred);
    // The C++ reader of TorchScript; the Python one is check_exports.py's.
    const at::Tensor read = script.forward({image}).toTensor();
    ASSERT_EQ(read.sizes(), pred.sizes()) << folder;
    const double scale = std::max(1.0, pred.abs().max().item<double>());
    EXPECT_LT((read - pred).abs().max().item<double>(), 1e-5 * scale) << folder;
    EXPECT_LT((read - fused).abs().max().item<double>(), 1e-4 * scale) << folder;
  }
  write_safetensors(folder / "io.safetensors", views);
}

/// Runs check_exports.py over a folder of cases.
void expect_readers_agree(const fs::path& python, const fs::path& folder) {
  const std::string command =
      python.string() + " " NAS_CHECK_EXPORTS " " + folder.string() + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

/// The smallest of some sizes that the network takes, and the same with one axis doubled: a network
/// whose sizes were baked in would fail on it. Cubes, because norms over two or three voxels would
/// enlarge every rounding.
std::vector<Extent3> sizes_for(const Graph& graph, const Extent3& patch) {
  for (const std::int64_t edge : {16, 24, 32, 37, 48, 64, 96}) {
    try {
      infer_shapes(graph, {edge, edge, edge});
    } catch (const Error&) {
      continue;
    }
    try {
      infer_shapes(graph, {edge, edge, 2 * edge});
      return {{edge, edge, edge}, {edge, edge, 2 * edge}};
    } catch (const Error&) {
      return {{edge, edge, edge}};
    }
  }
  return {patch};
}

/// Skips the test unless Python has what check_exports.py needs.
#define NAS_READERS_OR_SKIP(python)                                                          \
  NAS_PYTHON_OR_SKIP(python);                                                                \
  if (std::system((python.string() + " -c 'import onnx, onnxruntime' 2>/dev/null").c_str())) \
  GTEST_SKIP() << "needs the Python packages onnx and onnxruntime (scripts/setup.sh)"

TEST(ExportedOperations, GiveTheSameNumbersEverywhere) {
  NAS_READERS_OR_SKIP(python);
  const test::TempFolder temp;
  for (const Operation& row : operations()) {
    if (row.name == "input" || row.name == "output") continue;
    for (std::size_t i = 0; i < row.examples.size(); ++i) {
      Graph graph;
      graph.name = row.name;
      const int x = graph.add("input", "x", {}, {{"channels", std::int64_t{4}}});
      std::vector<int> inputs{x};
      if (row.max_inputs >= 2 && row.name != "crop")
        inputs.push_back(graph.add("leaky_relu", "other", {x}));
      if (row.max_inputs > 2) inputs.push_back(graph.add("sigmoid", "third.0", {x}));
      const int result = graph.add(row.name, "deep.0.op", inputs, row.examples[i]);
      graph.add("output", "y", {result});
      graph.add("output", "coarse", {graph.add("relu", "again", {result})});
      write_case(temp / (row.name + std::to_string(i)), graph, {{6, 7, 8}, {9, 8, 7}});
    }
  }
  Graph centre;  // crop to a second input
  const int x = centre.add("input", "x", {}, {{"channels", std::int64_t{2}}});
  const int small = centre.add("conv",
                               "conv",
                               {x},
                               {{"out_channels", std::int64_t{2}},
                                {"kernel", std::vector<std::int64_t>{2, 3, 4}},
                                {"padding", std::int64_t{0}}});
  centre.add(
      "output", "y", {centre.add("add", "sum", {centre.add("crop", "crop", {x, small}), small})});
  write_case(temp / "centre_crop", centre, {{6, 7, 8}, {9, 8, 7}});
  expect_readers_agree(python, temp.path());
}

TEST(ExportedSpaces, RandomGenotypesGiveTheSameNumbersEverywhere) {
  NAS_READERS_OR_SKIP(python);
  const test::TempFolder temp;
  for (const std::string& name : space_names()) {
    const auto space = make_space(example_description(name));
    Rng rng = Rng(5).split("export").split(name);
    for (int i = 0; i < 12; ++i) {
      const Phenotype point = space->build(i == 0 ? space->baseline() : space->sample(rng));
      write_case(
          temp / (name + std::to_string(i)), point.graph, sizes_for(point.graph, point.patch));
    }
  }
  expect_readers_agree(python, temp.path());
}

TEST(ExportedReferences, GiveTheSameNumbersEverywhere) {
  NAS_READERS_OR_SKIP(python);
  constexpr std::int64_t kLarge = 4'000'000'000;  // multiply-adds
  constexpr std::int64_t kEnough = 60'000'000;    // parameters that lie on the disk at once
  std::optional<test::TempFolder> temp(std::in_place);
  std::int64_t waiting = 0;
  for (const ReferenceNetwork& row : reference_networks()) {
    SCOPED_TRACE(row.name);
    const Graph graph = row.make(row.defaults);
    std::vector<Extent3> sizes = sizes_for(graph, row.defaults.patch);
    // The large ones run once; small networks of all kinds show that sizes are free.
    if (total_cost(graph, sizes.back()).macs > kLarge) sizes.resize(1);
    write_case(*temp / row.name, graph, sizes);
    waiting += total_cost(graph, row.defaults.patch).parameters;
    if (waiting < kEnough && &row != &reference_networks().back()) continue;
    expect_readers_agree(python, temp->path());
    temp.emplace();
    waiting = 0;
  }
}

Graph small_unet() {
  return make_unet({.in_channels = 1,
                    .classes = 3,
                    .features = {4, 8, 8},
                    .strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}},
                    .kernels = {{3, 3, 3}, {3, 3, 3}, {3, 3, 3}},
                    .blocks = {2, 2, 2},
                    .decoder_convs = {2, 2}});
}

TEST(ExportModel, EveryFormatTakesAnyName) {
  const test::TempFolder temp;
  save_model(temp / "model", model_of(small_unet()));
  for (const ExportFormat& format : export_formats()) {
    for (const char* name : {"liver", "liver.v1", "with space", ".hidden", "new/deep/x", "-x"}) {
      const fs::path out = temp / format.name / name;
      EXPECT_EQ(error_of([&] { export_model(temp / "model", format.name, out); }), "");
      EXPECT_TRUE(format.folder ? fs::is_directory(out) : fs::is_regular_file(out)) << out;
    }
  }
  const torch::jit::Module read = torch::jit::load((temp / "torchscript/liver").string());
  EXPECT_GT(read.named_parameters().size(), 0U);
}

TEST(ExportModel, EveryFormatIsWrittenFromAModelFolderAndNothingIsOverwritten) {
  const test::TempFolder temp;
  const Model model = model_of(small_unet());
  save_model(temp / "model", model);
  for (const ExportFormat& format : export_formats()) {
    const fs::path out = export_model(temp / "model/", format.name, temp / ("out" + format.suffix));
    EXPECT_TRUE(format.folder ? fs::is_directory(out) : fs::is_regular_file(out)) << format.name;
    ErrorKind kind{};
    const std::string message =
        error_of([&] { export_model(temp / "model", format.name, out); }, &kind);
    EXPECT_NE(message.find("exists already"), std::string::npos) << message;
    EXPECT_EQ(kind, ErrorKind::Usage);
  }
  const OnnxSummary in_folder = check_onnx(temp / "model/model.onnx");
  const OnnxSummary exported = check_onnx(temp / "out.onnx");
  EXPECT_EQ(in_folder.nodes, exported.nodes);
  const Json json = parse_json(exported.metadata.at(kPreprocessingKey), "metadata");
  EXPECT_EQ(preprocessing_from_json(json, "metadata"), model.preprocessing);
  EXPECT_EQ(json["model"]["network"].get<std::string>(), graph_id(model.network->graph()));
  const SafetensorsFile weights(temp / "out.safetensors");
  const Json stored = parse_json(weights.metadata().at("network.json"), "metadata");
  EXPECT_EQ(graph_from_json(stored, "metadata"), model.network->graph());
  GraphModule again(model.network->graph(), 99);
  load_weights((temp / "out.safetensors").string(), *again);
  for (const auto& item : again->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), model.network->named_parameters()[item.key()]));
  }
  for (const auto& entry : fs::directory_iterator(temp.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(".tmp-")) << entry.path();
  }
}

TEST(ExportModel, WrongUseAndBrokenFoldersAreTold) {
  const test::TempFolder temp;
  ErrorKind kind{};
  std::string message = error_of([&] { export_model(temp / "model", "onxx", temp / "o"); }, &kind);
  EXPECT_NE(message.find("did you mean 'onnx'"), std::string::npos) << message;
  EXPECT_EQ(kind, ErrorKind::Usage);
  message = error_of([&] { export_model(temp / "model", "onnx", temp / "o"); }, &kind);
  EXPECT_NE(message.find("expected a model folder"), std::string::npos) << message;
  EXPECT_EQ(kind, ErrorKind::Input);
  save_model(temp / "model", model_of(small_unet()));
  fs::remove(temp / "model/weights.safetensors");
  message = error_of([&] { export_model(temp / "model", "onnx", temp / "o"); });
  EXPECT_NE(message.find("weights.safetensors is missing"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(temp / "o"));

  // A name that PyTorch's modules use themselves: ONNX does not mind, PyTorch would.
  Graph graph;
  const int x = graph.add("input", "x", {}, {{"channels", std::int64_t{1}}});
  const Attributes conv{{"out_channels", std::int64_t{2}}, {"kernel", std::int64_t{1}}};
  graph.add("output", "y", {graph.add("conv", "stem.train", {x}, conv)});
  save_model(temp / "named", model_of(graph));
  export_model(temp / "named", "onnx", temp / "named.onnx");
  message = error_of([&] { export_model(temp / "named", "pytorch", temp / "named-pytorch"); });
  EXPECT_NE(message.find("stem.train"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(temp / "named-pytorch"));
}

}  // namespace
}  // namespace nas
