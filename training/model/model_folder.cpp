// SPDX-License-Identifier: Apache-2.0
#include "training/model/model_folder.h"

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/paths.h"
#include "nas/imaging/case_names.h"
#include "nas/network/onnx.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "training/model/script_file.h"
#include "training/model/state_views.h"
#include "training/model/weights.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNetworkFile = "network.json";
constexpr const char* kOnnxFile = "model.onnx";
constexpr const char* kPreprocessingFile = kPreprocessingKey;

/// Checks that network and preprocessing fit together.
void check_model(const Graph& graph, const Preprocessing& preprocessing, const std::string& where) {
  const auto [channels, classes] = network_ends(graph);
  NAS_CHECK(channels == static_cast<std::int64_t>(preprocessing.normalization.size()),
            where,
            ": the network reads ",
            channels,
            " channels, the preprocessing gives ",
            preprocessing.normalization.size());
  NAS_CHECK(classes == preprocessing.labels.outputs(),
            where,
            ": the network gives ",
            classes,
            preprocessing.labels.has_regions() ? " regions" : " classes",
            ", the preprocessing names ",
            preprocessing.labels.outputs());
}

}  // namespace

void save_model(const fs::path& folder, const Model& model) {
  const Graph& graph = model.network->graph();
  check_model(graph, model.preprocessing, folder.string());
  write_graph((folder / kNetworkFile).string(), with_own_files(folder, graph));
  save_weights((folder / kWeightsFile).string(), *model.network);
  if (has_onnx_form(graph)) write_model_onnx(model, folder / kOnnxFile);
  Json json = to_json(model.preprocessing);
  // Written last: a kill in between leaves a folder whose parts are known not to belong together.
  json["model"] = Json{{"network", graph_id(graph)}, {"weights", hash_file(folder / kWeightsFile)}};
  if (model.mirrored) json["model"]["mirrored"] = *model.mirrored;
  write_json(folder / kPreprocessingFile, json);
}

Model load_model(const fs::path& folder) {
  NAS_CHECK(fs::is_directory(folder),
            folder.string(),
            ": expected a model folder, found ",
            what_lies_at(folder));
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
    if (reader.at("model").has("mirrored")) {
      model.mirrored = reader.at("model").at("mirrored").boolean();
    }
  }
  model.network = GraphModule(graph);
  load_weights((folder / kWeightsFile).string(), *model.network);
  return model;
}

std::vector<Model> load_models(const std::string& names) {
  std::vector<fs::path> folders;
  for (const fs::path& folder : split_paths(names)) {
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
    same(own.labels == first.labels, "labels");
    same(own.channel_names == first.channel_names, "channels");
    same(own.transpose_forward == first.transpose_forward, "axis order (transpose_forward)");
    same(own.orientation == first.orientation, "orientation of images");
  }
  return models;
}

void check_mirrored(const std::vector<Model>& models, const std::string& names) {
  for (const Model& model : models) {
    NAS_CHECK_KIND(
        Usage,
        model.mirrored.value_or(true),
        "--mirror: expected models that were trained with mirrored images, found one of ",
        names,
        " that was not: it takes left for right there; leave the option out");
  }
}

std::string preprocessing_text(const Model& model) {
  Json json = to_json(model.preprocessing);
  json["model"] = Json{{"network", graph_id(model.network->graph())}};
  return json.dump(2);
}

void write_model_onnx(const Model& model, const fs::path& file) {
  write_onnx(file,
             model.network->graph(),
             state_views(*model.network).views,
             {.metadata = {{kPreprocessingKey, preprocessing_text(model)}}});
}

}  // namespace nas
