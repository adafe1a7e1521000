// SPDX-License-Identifier: Apache-2.0
#include "training/inference/predict.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/resample.h"
#include "nas/network/output_region.h"
#include "training/data/argmax_stream.h"
#include "training/exchange/export.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNetworkFile = "network.json";
constexpr const char* kWeightsFile = "weights.safetensors";
constexpr const char* kOnnxFile = "model.onnx";
constexpr const char* kPreprocessingFile = "preprocessing.json";

void check_options(const PredictOptions& options) {
  NAS_CHECK_KIND(Usage,
                 options.step > 0 && options.step <= 1,
                 "step: expected a share of the patch in (0, 1], got ",
                 options.step);
  NAS_CHECK_KIND(Usage,
                 options.batch >= 1,
                 "batch: expected at least one window at once, got ",
                 options.batch);
}

/// The number of classes from the graph, without running it.
std::int64_t class_count(const Graph& graph, const Extent3& patch) {
  const std::vector<int> outputs = graph.output_nodes();
  NAS_CHECK(!outputs.empty(), "network ", graph.name, ": has no output");
  return infer_shapes(graph, patch)[static_cast<std::size_t>(outputs.front())].channels;
}

std::int64_t channel_count(const Graph& graph, const Extent3& patch) {
  const std::vector<int> inputs = graph.input_nodes();
  NAS_CHECK(
      inputs.size() == 1, "network ", graph.name, ": expected one input, found ", inputs.size());
  return infer_shapes(graph, patch)[static_cast<std::size_t>(inputs.front())].channels;
}

/// Puts the network in evaluation mode for the life of the object.
class EvaluationMode {
 public:
  explicit EvaluationMode(GraphModule& network)
      : network_(network), was_training_(network->is_training()) {
    network_->eval();
  }
  ~EvaluationMode() { network_->train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  GraphModule& network_;
  bool was_training_;
};

/// Logits of a batch of windows; with `mirror` the mean over the eight mirrored inputs, mirrored
/// back.
at::Tensor window_logits(GraphModule& network, const at::Tensor& input, bool mirror) {
  at::Tensor sum;
  for (int flips = 0; flips < (mirror ? 8 : 1); ++flips) {
    std::vector<std::int64_t> axes;
    for (int axis = 0; axis < 3; ++axis) {
      if ((flips >> axis & 1) != 0) axes.push_back(2 + axis);
    }
    at::Tensor turned = axes.empty() ? input : input.flip(axes);
    if (input.is_cuda()) turned = turned.contiguous(at::MemoryFormat::ChannelsLast3d);
    at::Tensor logits = network->forward(turned).front().to(at::kFloat);
    if (!axes.empty()) logits = logits.flip(axes);
    sum = sum.defined() ? sum.add_(logits) : (mirror ? logits.clone() : logits);
  }
  return mirror ? sum.div_(8) : sum;
}

/// The sliding window over one image: over what the network's output describes (`tile`, all of the
/// patch unless its convolutions are unpadded). Goes front to back; a slice leaves as soon as no
/// later window touches it, so that only one tile depth of scores exists. Image and options must
/// outlive it.
class WindowScores {
 public:
  WindowScores(const GraphModule& network,
               const Image& image,
               const Extent3& patch,
               const PredictOptions& options)
      : network_(network),
        image_(image),
        patch_(patch),
        options_(options),
        device_(choose_device(options.device)),
        type_(choose_precision(options.precision, device_)) {
    check_options(options);
    const Graph& graph = network_->graph();
    classes_ = class_count(graph, patch);
    NAS_CHECK_KIND(Shape,
                   image.channels == channel_count(graph, patch),
                   "network ",
                   graph.name,
                   ": expected ",
                   channel_count(graph, patch),
                   " channels, the image has ",
                   image.channels);
    if (options.threads > 0) at::set_num_threads(options.threads);
    const at::NoGradGuard no_grad;
    network_->to(device_);
    const OutputRegion region = output_region(graph, patch);
    begin_ = region.begin;
    tile_ = region.size;

    // Smaller images are padded on both sides, the larger half behind (nnU-Net's pad_nd_image).
    for (std::size_t i = 0; i < 3; ++i) {
      padded_[i] = std::max(image.geometry.shape[i], tile_[i]);
      before_[i] = (padded_[i] - image.geometry.shape[i]) / 2;
    }
    starts_ = window_starts(padded_, tile_, options.step);
    for (const std::int64_t y : starts_[1]) {
      for (const std::int64_t x : starts_[2]) plane_starts_.push_back({y, x});
    }
    const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat);
    std::vector<float> importance = gaussian_importance(tile_);
    // Scores stay on the device where they fit easily; a CPU keeps them anyway.
    const std::int64_t score_bytes = (classes_ + 1) * tile_[0] * padded_[1] * padded_[2] * 4;
    place_ = score_bytes < (std::int64_t{4} << 30) ? device_ : at::Device(at::kCPU);
    weight_ = at::from_blob(importance.data(), {tile_[0], tile_[1], tile_[2]}, floats)
                  .to(place_, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    scores_ = at::zeros({classes_, tile_[0], padded_[1], padded_[2]}, floats.device(place_));
    weights_ = at::zeros({tile_[0], padded_[1], padded_[2]}, floats.device(place_));
  }

  std::int64_t windows() const {
    return static_cast<std::int64_t>(starts_[0].size() * plane_starts_.size());
  }

  /// The next final slices: [K, n, H, W] float32 on the CPU, contiguous; undefined after the last.
  at::Tensor next(Progress* progress) {
    while (row_ < starts_[0].size()) {
      at::Tensor slab = next_row(progress);
      if (slab.defined()) return slab;
    }
    return {};
  }

 private:
  /// Runs one row of windows; undefined if all slices that it finishes are padding.
  at::Tensor next_row(Progress* progress) {
    const at::NoGradGuard no_grad;
    const EvaluationMode evaluation(network_);
    const Autocast autocast(device_, type_);
    const std::int64_t z = starts_[0][row_];
    for (std::size_t first = 0; first < plane_starts_.size();
         first += static_cast<std::size_t>(options_.batch)) {
      NAS_CHECK_KIND(Io, !stop_requested(), "stopped while predicting");
      const std::size_t count =
          std::min(plane_starts_.size() - first, static_cast<std::size_t>(options_.batch));
      at::Tensor input = at::empty(
          {static_cast<std::int64_t>(count), image_.channels, patch_[0], patch_[1], patch_[2]},
          at::kFloat);
      for (std::size_t b = 0; b < count; ++b) {
        const auto [y, x] = plane_starts_[first + b];
        copy_window(
            image_,
            {z - before_[0] - begin_[0], y - before_[1] - begin_[1], x - before_[2] - begin_[2]},
            patch_,
            input[static_cast<std::int64_t>(b)].data_ptr<float>());
      }
      const at::Tensor logits =
          window_logits(network_, input.to(device_), options_.mirror).to(place_);
      for (std::size_t b = 0; b < count; ++b) {
        const auto [y, x] = plane_starts_[first + b];
        scores_.narrow(2, y, tile_[1])
            .narrow(3, x, tile_[2])
            .addcmul_(logits[static_cast<std::int64_t>(b)], weight_);
        weights_.narrow(1, y, tile_[1]).narrow(2, x, tile_[2]).add_(weight_);
      }
      if (progress != nullptr) progress->advance(static_cast<std::int64_t>(count));
    }
    // Slices before the next row of windows are final.
    ++row_;
    const std::int64_t done = (row_ < starts_[0].size() ? starts_[0][row_] : padded_[0]) - z;
    const std::int64_t low = std::max<std::int64_t>(before_[0] - z, 0);
    const std::int64_t high = std::min(before_[0] + image_.geometry.shape[0] - z, done);
    at::Tensor slab;
    if (low < high) {
      const auto crop = [&](const at::Tensor& tensor, std::int64_t axis) {
        return tensor.narrow(axis, low, high - low)
            .narrow(axis + 1, before_[1], image_.geometry.shape[1])
            .narrow(axis + 2, before_[2], image_.geometry.shape[2]);
      };
      slab = (crop(scores_, 1) / crop(weights_, 0)).to(at::kCPU).contiguous();
      NAS_CHECK(std::isfinite(slab.sum(at::kDouble).item<double>()),
                "network ",
                network_->graph().name,
                ": its output holds NaN or infinity");
    }
    const std::int64_t keep = tile_[0] - done;
    for (at::Tensor* buffer : {&scores_, &weights_}) {
      const std::int64_t axis = buffer == &scores_ ? 1 : 0;
      if (keep > 0) buffer->narrow(axis, 0, keep).copy_(buffer->narrow(axis, done, keep).clone());
      buffer->narrow(axis, keep, done).zero_();
    }
    return slab;
  }

  GraphModule network_;
  const Image& image_;
  Extent3 patch_;
  Extent3 begin_{}, tile_{};  // of the output within the patch, voxels
  const PredictOptions& options_;
  at::Device device_;
  at::ScalarType type_;
  at::Device place_ = at::kCPU;
  std::int64_t classes_ = 0;
  Extent3 padded_{}, before_{};
  std::vector<std::vector<std::int64_t>> starts_;
  std::vector<std::array<std::int64_t, 2>> plane_starts_;
  at::Tensor weight_, scores_, weights_;
  std::size_t row_ = 0;  // of windows, the next to be run
};

std::int64_t live_activation_bytes(const Graph& graph,
                                   const Extent3& patch,
                                   std::int64_t bytes_per_element) {
  const std::vector<TensorShape> shapes = infer_shapes(graph, patch);
  std::vector<std::size_t> last_use(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    last_use[i] = i;
    for (const int input : graph.nodes[i].inputs) last_use[static_cast<std::size_t>(input)] = i;
  }
  std::int64_t live = 0;
  std::int64_t peak = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    live += shapes[i].elements();
    peak = std::max(peak, live);
    for (std::size_t j = 0; j <= i; ++j) {
      if (last_use[j] == i) live -= shapes[j].elements();
    }
  }
  return peak * bytes_per_element;
}

bool is_identity(const std::array<int, 3>& order) { return order == std::array<int, 3>{0, 1, 2}; }

/// Checks that network and preprocessing fit together.
void check_model(const Graph& graph, const Preprocessing& preprocessing, const std::string& where) {
  const std::int64_t channels = channel_count(graph, preprocessing.patch);
  const std::int64_t classes = class_count(graph, preprocessing.patch);
  NAS_CHECK(channels == static_cast<std::int64_t>(preprocessing.normalization.size()),
            where,
            ": the network reads ",
            channels,
            " channels, the preprocessing gives ",
            preprocessing.normalization.size());
  NAS_CHECK(classes == static_cast<std::int64_t>(preprocessing.label_names.size()),
            where,
            ": the network gives ",
            classes,
            " classes, the preprocessing names ",
            preprocessing.label_names.size(),
            " labels");
}

}  // namespace

at::Tensor predict_logits(GraphModule& network,
                          const Image& image,
                          const Extent3& patch,
                          const PredictOptions& options) {
  const Extent3& shape = image.geometry.shape;
  at::Tensor result =
      at::empty({class_count(network->graph(), patch), shape[0], shape[1], shape[2]}, at::kFloat);
  WindowScores windows(network, image, patch, options);
  for (std::int64_t next = 0; next < shape[0];) {
    const at::Tensor scores = windows.next(nullptr);
    result.narrow(1, next, scores.size(1)).copy_(scores);
    next += scores.size(1);
  }
  return result;
}

void save_model(const fs::path& folder, const Model& model) {
  const Graph& graph = model.network->graph();
  check_model(graph, model.preprocessing, folder.string());
  write_graph((folder / kNetworkFile).string(), graph);
  save_weights((folder / kWeightsFile).string(), *model.network);
  write_model_onnx(model, folder / kOnnxFile);
  Json json = to_json(model.preprocessing);
  // Written last: a kill in between leaves a folder whose parts are known not to belong together.
  json["model"] = Json{{"network", graph_id(graph)}, {"weights", hash_file(folder / kWeightsFile)}};
  write_json(folder / kPreprocessingFile, json);
}

Model load_model(const fs::path& folder) {
  NAS_CHECK(fs::is_directory(folder),
            folder.string(),
            ": expected a model folder, found ",
            fs::exists(folder) ? "a file" : "nothing");
  for (const char* name : {kNetworkFile, kWeightsFile, kPreprocessingFile}) {
    NAS_CHECK(fs::is_regular_file(folder / name),
              folder.string(),
              ": not a complete model folder: ",
              name,
              " is missing");
  }
  const fs::path json_file = folder / kPreprocessingFile;
  const Json json = read_json(json_file);
  Model model;
  model.preprocessing = preprocessing_from_json(json, json_file.string());
  const Graph graph = read_graph((folder / kNetworkFile).string());
  const std::string network_file = (folder / kNetworkFile).string();
  NAS_CHECK(graph.is_closed(), network_file, ": expected a network without open choices");
  check_model(graph, model.preprocessing, network_file);
  const JsonReader reader(json, json_file.string());
  if (reader.has("model")) {
    NAS_CHECK(reader.at("model").at("network").text() == graph_id(graph),
              json_file.string(),
              ": belongs to another network than ",
              kNetworkFile,
              " beside it");
    NAS_CHECK(reader.at("model").at("weights").text() == hash_file(folder / kWeightsFile),
              json_file.string(),
              ": belongs to other weights than ",
              kWeightsFile,
              " beside it, or that file is damaged");
  }
  model.network = GraphModule(graph);
  load_weights((folder / kWeightsFile).string(), *model.network);
  return model;
}

std::vector<Model> load_models(const std::string& names) {
  std::vector<fs::path> folders;
  std::istringstream stream(names);
  for (std::string name; std::getline(stream, name, ',');) {
    const fs::path folder = name;
    if (fs::exists(folder / kPreprocessingFile) || !fs::is_directory(folder)) {
      folders.push_back(folder);
      continue;
    }
    // A run over folds, or the run folder of one training.
    std::vector<fs::path> found;
    for (int fold = 0; fs::is_directory(folder / ("fold_" + std::to_string(fold))); ++fold) {
      found.push_back(folder / ("fold_" + std::to_string(fold)) / "model");
    }
    if (found.empty() && fs::is_directory(folder / "model")) found.push_back(folder / "model");
    if (found.empty()) found.push_back(folder);  // load_model says what is missing
    folders.insert(folders.end(), found.begin(), found.end());
  }
  NAS_CHECK_KIND(Usage, !folders.empty(), "expected a model folder, got '", names, "'");
  std::vector<Model> models;
  for (const fs::path& folder : folders) {
    models.push_back(load_model(folder));
    const Preprocessing& first = models.front().preprocessing;
    const Preprocessing& own = models.back().preprocessing;
    const auto same = [&](bool equal, const char* what) {
      NAS_CHECK(equal,
                folder.string(),
                ": has other ",
                what,
                " than ",
                folders.front().string(),
                "; their probabilities cannot be averaged");
    };
    same(own.label_names == first.label_names, "labels");
    same(own.channel_names == first.channel_names, "channels");
    same(own.transpose_forward == first.transpose_forward, "axis order (transpose_forward)");
  }
  return models;
}

namespace {

/// Whether an image becomes the same input under both.
bool same_input(Preprocessing a, const Preprocessing& b) {
  a.configuration = b.configuration;
  a.patch = b.patch;
  return a == b;
}

/// For each model the first one that reads the same input.
std::vector<std::size_t> input_of(const std::vector<Model>& models) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < models.size(); ++i) {
    std::size_t j = 0;
    while (j < i && !same_input(models[j].preprocessing, models[i].preprocessing)) ++j;
    result.push_back(j);
  }
  return result;
}

}  // namespace

std::int64_t predict_memory_bytes(const std::vector<Model>& models,
                                  const Geometry& geometry,
                                  const PredictOptions& options) {
  constexpr std::int64_t kRuntime = std::int64_t{450}
                                    << 20;  // LibTorch loaded, its pools, the program
  const at::Device device = choose_device(options.device);
  const bool half = choose_precision(options.precision, device) != at::kFloat;
  const std::int64_t original = volume(geometry.shape);
  const Preprocessing& first = models.front().preprocessing;
  const auto channels = static_cast<std::int64_t>(first.normalization.size());
  const std::int64_t classes = class_count(models.front().network->graph(), first.patch);
  Extent3 target{};
  for (std::size_t i = 0; i < 3; ++i) {
    target[i] = geometry.shape[static_cast<std::size_t>(first.transpose_forward[i])];
  }

  const std::vector<std::size_t> shared = input_of(models);
  std::int64_t weights = 0, inputs = 0, largest_input = 0, scores = 0, network = 0;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const Graph& graph = models[i].network->graph();
    const Extent3& patch = models[i].preprocessing.patch;
    for (const at::Tensor& parameter : models[i].network->parameters()) {
      weights += parameter.numel() * 4;
    }
    Extent3 shape = preprocessed_shape(geometry, models[i].preprocessing);
    if (shared[i] == i) {
      inputs += channels * volume(shape) * 4;
      largest_input = std::max(largest_input, volume(shape));
    }
    const Extent3 tile = output_region(graph, patch).size;
    for (std::size_t axis = 0; axis < 3; ++axis) shape[axis] = std::max(shape[axis], tile[axis]);
    // Scores of one tile depth, three times while a slab leaves.
    scores += 3 * (classes + 1) * tile[0] * shape[1] * shape[2] * 4;
    // The network's live results with the convolution's own copies; networks take turns.
    if (device.is_cpu()) {
      network =
          std::max(network, live_activation_bytes(graph, patch, half ? 2 : 4) * options.batch * 2);
    }
  }
  // Preprocessing: the image, its turned copy, the crop, the results, and one channel of spline
  // coefficients.
  const std::int64_t turned = is_identity(first.transpose_forward) ? 0 : channels * original * 4;
  const std::int64_t preparing =
      channels * original * 4 * 2 + turned + inputs + (original + largest_input) * 8;
  // Prediction: image and network inputs, scores, one network at work, and the labels.
  const std::int64_t predicting =
      channels * original * 4 + inputs + scores + network +
      argmax_stream_bytes(classes, static_cast<std::int64_t>(models.size()), target) + original * 2;
  return kRuntime + weights * 2 + std::max(preparing, predicting);
}

std::vector<std::shared_ptr<const PreprocessedCase>> preprocess_for(
    const std::vector<Model>& models, const Image& image, int threads) {
  const std::vector<std::size_t> shared = input_of(models);
  std::vector<std::shared_ptr<const PreprocessedCase>> inputs;
  for (std::size_t i = 0; i < models.size(); ++i) {
    inputs.push_back(shared[i] < i ? inputs[shared[i]]
                                   : std::make_shared<const PreprocessedCase>(preprocess_case(
                                         image, nullptr, models[i].preprocessing, threads)));
  }
  return inputs;
}

LabelMap predict_preprocessed(const std::vector<Model>& models,
                              const std::vector<std::shared_ptr<const PreprocessedCase>>& inputs,
                              const PredictOptions& options) {
  NAS_CHECK_KIND(Internal,
                 !models.empty() && models.size() == inputs.size(),
                 "prediction: expected an input for each of ",
                 models.size(),
                 " models, got ",
                 inputs.size());
  const PreprocessedCase& first = *inputs.front();
  const std::array<int, 3>& transpose = models.front().preprocessing.transpose_forward;
  Vec3 spacing{};
  for (std::size_t i = 0; i < 3; ++i) {
    spacing[i] = first.original.spacing_mm[static_cast<std::size_t>(transpose[i])];
  }
  std::vector<std::unique_ptr<WindowScores>> windows;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < models.size(); ++i) {
    NAS_CHECK_KIND(Internal,
                   inputs[i]->crop_shape == first.crop_shape &&
                       models[i].preprocessing.transpose_forward == transpose,
                   "prediction: the models' inputs lie on different grids");
    windows.push_back(std::make_unique<WindowScores>(
        models[i].network, inputs[i]->image, models[i].preprocessing.patch, options));
    total += windows.back()->windows();
  }
  std::optional<Progress> progress;
  if (options.show_progress) progress.emplace("predicting", total, "windows");
  Progress* const bar = progress ? &*progress : nullptr;

  std::vector<at::Tensor> slabs(models.size());
  std::vector<ScoreSource> sources;
  for (std::size_t i = 0; i < models.size(); ++i) {
    sources.push_back({inputs[i]->image.geometry.shape,
                       separate_axis(models[i].preprocessing.spacing, spacing),
                       [&, i] {
                         slabs[i] = windows[i]->next(bar);
                         return ScoreSlab{slabs[i].data_ptr<float>(), slabs[i].size(1)};
                       }});
  }
  const std::int64_t classes =
      class_count(models.front().network->graph(), models.front().preprocessing.patch);
  return restore_grid(
      argmax_stream(classes, sources, first.crop_shape, options.threads), first, transpose);
}

LabelMap predict_image(const std::vector<Model>& models,
                       const Image& image,
                       const PredictOptions& options) {
  check_options(options);
  return predict_preprocessed(models, preprocess_for(models, image, options.threads), options);
}

LabelMap predict_image(Model& model, const Image& image, const PredictOptions& options) {
  return predict_image(std::vector<Model>{model}, image, options);
}

std::vector<CaseMetrics> evaluate_cases(Model& model,
                                        const DataSet& data,
                                        const std::vector<std::string>& ids,
                                        const PredictOptions& options,
                                        const fs::path& save_folder,
                                        bool show_progress) {
  check_options(options);
  const std::vector<Model> models{model};
  struct Loaded {
    std::vector<std::shared_ptr<const PreprocessedCase>> inputs;
    LabelMap reference;
  };
  const auto load = [&](std::size_t i) {
    const CaseFiles& files = data.find(ids[i]);
    NAS_CHECK(!files.label.empty(), "case ", files.id, ": cannot be scored, it has no label file");
    Loaded loaded;
    loaded.inputs = preprocess_for(models, read_case_image(data, files), 1);
    loaded.reference = read_case_label(data, files);
    return loaded;
  };
  const auto classes = static_cast<std::int64_t>(model.preprocessing.label_names.size()) - 1;
  PredictOptions quiet = options;
  quiet.show_progress = false;
  std::optional<Progress> progress;
  if (show_progress) progress.emplace("evaluating", static_cast<std::int64_t>(ids.size()), "cases");

  std::vector<CaseMetrics> results(ids.size());
  std::future<Loaded> next;
  std::future<void> scoring;
  if (!ids.empty()) next = std::async(std::launch::async, load, std::size_t{0});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Loaded loaded = next.get();
    if (i + 1 < ids.size()) next = std::async(std::launch::async, load, i + 1);
    LabelMap prediction = predict_preprocessed(models, loaded.inputs, quiet);
    loaded.inputs.clear();
    if (scoring.valid()) scoring.get();
    scoring = std::async(std::launch::async,
                         [&results,
                          &save_folder,
                          &ids,
                          i,
                          classes,
                          predicted = std::move(prediction),
                          reference = std::move(loaded.reference)]() {
                           results[i] = compute_metrics(predicted, reference, classes);
                           results[i].id = ids[i];
                           if (!save_folder.empty())
                             write_nifti(save_folder / (ids[i] + ".nii.gz"), predicted);
                         });
    if (progress) progress->advance(1, ids[i]);
  }
  if (scoring.valid()) scoring.get();
  return results;
}

}  // namespace nas
