// SPDX-License-Identifier: Apache-2.0
#include "training/predict.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <future>
#include <numeric>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/network/output_region.h"
#include "training/argmax_stream.h"
#include "training/export.h"
#include "training/imaging/nifti.h"
#include "training/imaging/resample.h"

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

/// Takes final scores of consecutive slices: [K, n, H, W] float32 on the CPU, contiguous.
using SlabSink = std::function<void(const at::Tensor& scores)>;

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

/// Copies the window at `start` (which may stick out of the image) to `out`, [C, d, h, w]; zero
/// outside.
void copy_window(const Image& image, const Extent3& start, const Extent3& patch, float* out) {
  const Extent3& shape = image.geometry.shape;
  const std::int64_t x_low = std::clamp<std::int64_t>(-start[2], 0, patch[2]);
  const std::int64_t x_high = std::clamp<std::int64_t>(shape[2] - start[2], x_low, patch[2]);
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const float* channel = image.channel(c).data();
    for (std::int64_t d = 0; d < patch[0]; ++d) {
      const std::int64_t z = start[0] + d;
      for (std::int64_t h = 0; h < patch[1]; ++h, out += patch[2]) {
        const std::int64_t y = start[1] + h;
        if (z < 0 || z >= shape[0] || y < 0 || y >= shape[1]) {
          std::fill_n(out, patch[2], 0.0F);
          continue;
        }
        const float* row = channel + (z * shape[1] + y) * shape[2] + start[2];
        std::fill(out, out + x_low, 0.0F);
        std::copy(row + x_low, row + x_high, out + x_low);
        std::fill(out + x_high, out + patch[2], 0.0F);
      }
    }
  }
}

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

/// The sliding window over what the network's output describes (`tile`, all of the patch unless its
/// convolutions are unpadded). Goes front to back; a slice leaves through `sink` as soon as no
/// later window touches it, so that only one patch depth of scores exists.
void slide(GraphModule& network,
           const Image& image,
           const Extent3& patch,
           const PredictOptions& options,
           const SlabSink& sink) {
  check_options(options);
  const Graph& graph = network->graph();
  const std::int64_t channels = channel_count(graph, patch);
  const std::int64_t classes = class_count(graph, patch);
  NAS_CHECK_KIND(Shape,
                 image.channels == channels,
                 "network ",
                 graph.name,
                 ": expected ",
                 channels,
                 " channels, the image has ",
                 image.channels);
  const at::Device device = choose_device(options.device);
  const at::ScalarType type = choose_precision(options.precision, device);
  if (options.threads > 0) at::set_num_threads(options.threads);

  const at::NoGradGuard no_grad;
  network->to(device);
  const EvaluationMode evaluation(network);
  const Autocast autocast(device, type);

  const OutputRegion region = output_region(graph, patch);
  const Extent3& tile = region.size;

  // Smaller images are padded on both sides, the larger half behind (nnU-Net's pad_nd_image).
  Extent3 padded{};
  Extent3 before{};
  for (std::size_t i = 0; i < 3; ++i) {
    padded[i] = std::max(image.geometry.shape[i], tile[i]);
    before[i] = (padded[i] - image.geometry.shape[i]) / 2;
  }
  const auto starts = window_starts(padded, tile, options.step);

  const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat);
  const std::vector<float> importance = gaussian_importance(tile);
  // Scores stay on the device where they fit easily; a CPU keeps them anyway.
  const std::int64_t score_bytes = (classes + 1) * tile[0] * padded[1] * padded[2] * 4;
  const at::Device place = score_bytes < (std::int64_t{4} << 30) ? device : at::Device(at::kCPU);
  const at::Tensor weight =
      at::from_blob(const_cast<float*>(importance.data()), {tile[0], tile[1], tile[2]}, floats)
          .to(place);
  at::Tensor scores = at::zeros({classes, tile[0], padded[1], padded[2]}, floats.device(place));
  at::Tensor weights = at::zeros({tile[0], padded[1], padded[2]}, floats.device(place));

  std::vector<std::array<std::int64_t, 2>> plane_starts;
  for (const std::int64_t y : starts[1]) {
    for (const std::int64_t x : starts[2]) plane_starts.push_back({y, x});
  }
  std::optional<Progress> progress;
  if (options.show_progress) {
    progress.emplace(
        "predicting", static_cast<std::int64_t>(starts[0].size() * plane_starts.size()), "windows");
  }
  for (std::size_t iz = 0; iz < starts[0].size(); ++iz) {
    const std::int64_t z = starts[0][iz];
    for (std::size_t first = 0; first < plane_starts.size();
         first += static_cast<std::size_t>(options.batch)) {
      NAS_CHECK_KIND(Io, !stop_requested(), "stopped while predicting");
      const std::size_t count =
          std::min(plane_starts.size() - first, static_cast<std::size_t>(options.batch));
      at::Tensor input = at::empty(
          {static_cast<std::int64_t>(count), channels, patch[0], patch[1], patch[2]}, floats);
      for (std::size_t b = 0; b < count; ++b) {
        const auto [y, x] = plane_starts[first + b];
        copy_window(image,
                    {z - before[0] - region.begin[0],
                     y - before[1] - region.begin[1],
                     x - before[2] - region.begin[2]},
                    patch,
                    input[static_cast<std::int64_t>(b)].data_ptr<float>());
      }
      const at::Tensor logits = window_logits(network, input.to(device), options.mirror).to(place);
      for (std::size_t b = 0; b < count; ++b) {
        const auto [y, x] = plane_starts[first + b];
        scores.narrow(2, y, tile[1])
            .narrow(3, x, tile[2])
            .addcmul_(logits[static_cast<std::int64_t>(b)], weight);
        weights.narrow(1, y, tile[1]).narrow(2, x, tile[2]).add_(weight);
      }
      if (progress) progress->advance(static_cast<std::int64_t>(count));
    }
    // Slices before the next row of windows are final.
    const std::int64_t done = (iz + 1 < starts[0].size() ? starts[0][iz + 1] : padded[0]) - z;
    const std::int64_t low = std::max<std::int64_t>(before[0] - z, 0);
    const std::int64_t high = std::min(before[0] + image.geometry.shape[0] - z, done);
    if (low < high) {
      const auto crop = [&](const at::Tensor& tensor, std::int64_t axis) {
        return tensor.narrow(axis, low, high - low)
            .narrow(axis + 1, before[1], image.geometry.shape[1])
            .narrow(axis + 2, before[2], image.geometry.shape[2]);
      };
      const at::Tensor slab = (crop(scores, 1) / crop(weights, 0)).to(at::kCPU).contiguous();
      NAS_CHECK(std::isfinite(slab.sum(at::kDouble).item<double>()),
                "network ",
                graph.name,
                ": its output holds NaN or infinity");
      sink(slab);
    }
    const std::int64_t keep = tile[0] - done;
    for (at::Tensor* buffer : {&scores, &weights}) {
      const std::int64_t axis = buffer == &scores ? 1 : 0;
      if (keep > 0) buffer->narrow(axis, 0, keep).copy_(buffer->narrow(axis, done, keep).clone());
      buffer->narrow(axis, keep, done).zero_();
    }
  }
}

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

/// Puts labels of the crop (transposed axes) into a map on the file's grid.
LabelMap restore_grid(const std::vector<std::int16_t>& labels,
                      const PreprocessedCase& input,
                      const std::array<int, 3>& transpose_forward) {
  LabelMap result;
  result.geometry = input.original;
  result.voxels.assign(static_cast<std::size_t>(volume(input.original.shape)), 0);
  const Extent3& shape = input.original.shape;
  const Extent3 file_strides{shape[1] * shape[2], shape[2], 1};
  Extent3 strides{};
  for (std::size_t i = 0; i < 3; ++i)
    strides[i] = file_strides[static_cast<std::size_t>(transpose_forward[i])];
  const std::int16_t* read = labels.data();
  for (std::int64_t d = 0; d < input.crop_shape[0]; ++d) {
    for (std::int64_t h = 0; h < input.crop_shape[1]; ++h) {
      std::int16_t* row = result.voxels.data() + (input.crop_begin[0] + d) * strides[0] +
                          (input.crop_begin[1] + h) * strides[1] + input.crop_begin[2] * strides[2];
      for (std::int64_t w = 0; w < input.crop_shape[2]; ++w) row[w * strides[2]] = *read++;
    }
  }
  return result;
}

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

std::vector<std::vector<std::int64_t>> window_starts(const Extent3& image,
                                                     const Extent3& patch,
                                                     double step) {
  NAS_CHECK_KIND(
      Usage, step > 0 && step <= 1, "step: expected a share of the patch in (0, 1], got ", step);
  std::vector<std::vector<std::int64_t>> result(3);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    NAS_CHECK_KIND(Shape,
                   patch[axis] >= 1 && image[axis] >= patch[axis],
                   "sliding window: image ",
                   to_text(image),
                   " is smaller than the patch ",
                   to_text(patch));
    const auto room = static_cast<double>(image[axis] - patch[axis]);
    // At least one voxel apart: a tiny step would only repeat windows.
    const double apart = std::max(1.0, static_cast<double>(patch[axis]) * step);
    const auto count = static_cast<std::int64_t>(std::ceil(room / apart)) + 1;
    const double spread = count > 1 ? room / static_cast<double>(count - 1) : 0;
    for (std::int64_t i = 0; i < count; ++i) {
      // nearbyint rounds halves to even, as NumPy does.
      result[axis].push_back(
          static_cast<std::int64_t>(std::nearbyint(spread * static_cast<double>(i))));
    }
  }
  return result;
}

std::vector<float> gaussian_importance(const Extent3& patch, double sigma_scale, double peak) {
  std::array<std::vector<double>, 3> profile;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double sigma = sigma_scale * static_cast<double>(patch[axis]);
    for (std::int64_t i = 0; i < patch[axis]; ++i) {
      const auto distance = static_cast<double>(i - patch[axis] / 2);
      profile[axis].push_back(std::exp(-0.5 * distance * distance / (sigma * sigma)));
    }
  }
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>(volume(patch)));
  for (const double z : profile[0]) {
    for (const double y : profile[1]) {
      for (const double x : profile[2]) result.push_back(static_cast<float>(peak * z * y * x));
    }
  }
  return result;
}

at::Tensor predict_logits(GraphModule& network,
                          const Image& image,
                          const Extent3& patch,
                          const PredictOptions& options) {
  const Extent3& shape = image.geometry.shape;
  at::Tensor result =
      at::empty({class_count(network->graph(), patch), shape[0], shape[1], shape[2]}, at::kFloat);
  std::int64_t next = 0;
  slide(network, image, patch, options, [&](const at::Tensor& scores) {
    result.narrow(1, next, scores.size(1)).copy_(scores);
    next += scores.size(1);
  });
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

std::int64_t predict_memory_bytes(const Model& model,
                                  const Geometry& geometry,
                                  const PredictOptions& options) {
  const Preprocessing& preprocessing = model.preprocessing;
  const Graph& graph = model.network->graph();
  const Extent3& patch = preprocessing.patch;
  const auto channels = static_cast<std::int64_t>(preprocessing.normalization.size());
  const std::int64_t classes = class_count(graph, patch);
  const std::int64_t original = volume(geometry.shape);
  Extent3 shape = preprocessed_shape(geometry, preprocessing);
  const std::int64_t resampled = volume(shape);
  const Extent3 tile = output_region(graph, patch).size;
  for (std::size_t i = 0; i < 3; ++i) shape[i] = std::max(shape[i], tile[i]);

  constexpr std::int64_t kRuntime = std::int64_t{450}
                                    << 20;  // LibTorch loaded, its pools, the program
  const at::Device device = choose_device(options.device);
  const bool half = choose_precision(options.precision, device) != at::kFloat;
  std::int64_t weights = 0;
  for (const at::Tensor& parameter : model.network->parameters()) weights += parameter.numel() * 4;

  // Preprocessing: the image, its turned copy, the crop, the result, and one channel of spline
  // coefficients.
  const std::int64_t turned =
      is_identity(preprocessing.transpose_forward) ? 0 : channels * original * 4;
  const std::int64_t preparing =
      channels * original * 4 * 2 + turned + channels * resampled * 4 + (original + resampled) * 8;
  // Prediction: image and network input, scores of one tile depth (three times while a slab
  // leaves), the network's live results with the convolution's own copies, and the labels.
  const std::int64_t scores = (classes + 1) * tile[0] * shape[1] * shape[2] * 4;
  const std::int64_t network =
      device.is_cpu() ? live_activation_bytes(graph, patch, half ? 2 : 4) * options.batch * 2 : 0;
  std::array<int, 3> forward = preprocessing.transpose_forward;
  const Extent3 target{geometry.shape[static_cast<std::size_t>(forward[0])],
                       geometry.shape[static_cast<std::size_t>(forward[1])],
                       geometry.shape[static_cast<std::size_t>(forward[2])]};
  const std::int64_t predicting = channels * (original + resampled) * 4 + 3 * scores + network +
                                  ArgMaxStream::memory_bytes(classes, target) + original * 2;
  return kRuntime + weights * 2 + std::max(preparing, predicting);
}

LabelMap predict_preprocessed(Model& model,
                              const PreprocessedCase& input,
                              const PredictOptions& options) {
  const Preprocessing& preprocessing = model.preprocessing;
  Vec3 spacing{};
  for (std::size_t i = 0; i < 3; ++i) {
    spacing[i] =
        input.original.spacing_mm[static_cast<std::size_t>(preprocessing.transpose_forward[i])];
  }
  ArgMaxStream stream(class_count(model.network->graph(), preprocessing.patch),
                      input.image.geometry.shape,
                      input.crop_shape,
                      separate_axis(preprocessing.spacing, spacing),
                      options.threads);
  slide(model.network, input.image, preprocessing.patch, options, [&](const at::Tensor& scores) {
    stream.push(scores.data_ptr<float>(), scores.size(1));
  });
  return restore_grid(stream.take(), input, preprocessing.transpose_forward);
}

LabelMap predict_image(Model& model, const Image& image, const PredictOptions& options) {
  check_options(options);
  return predict_preprocessed(
      model, preprocess_case(image, nullptr, model.preprocessing, options.threads), options);
}

std::vector<CaseMetrics> evaluate_cases(Model& model,
                                        const DataSet& data,
                                        const std::vector<std::string>& ids,
                                        const PredictOptions& options,
                                        const fs::path& save_folder,
                                        bool show_progress) {
  check_options(options);
  struct Loaded {
    PreprocessedCase input;
    LabelMap reference;
  };
  const auto load = [&](std::size_t i) {
    const CaseFiles& files = data.find(ids[i]);
    NAS_CHECK(!files.label.empty(), "case ", files.id, ": cannot be scored, it has no label file");
    Loaded loaded;
    loaded.input = preprocess_case(read_case_image(data, files), nullptr, model.preprocessing);
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
    LabelMap prediction = predict_preprocessed(model, loaded.input, quiet);
    loaded.input = {};
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
