// SPDX-License-Identifier: Apache-2.0
#include "training/exchange/export.h"

#include <map>
#include <utility>

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/pickler.h>
#include <torch/script.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/network/operations.h"
#include "nas/network/torch_source.h"
#include "training/exchange/monai_bundle.h"
#include "training/exchange/nnunet.h"
#include "training/model/state_views.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

// ---- TorchScript ----

/// A tree of script modules with the dotted names of the graph.
class ScriptBuilder {
 public:
  ScriptBuilder() : root_(new_module()) {}

  torch::jit::Module& at(const std::string& dotted) {
    if (dotted.empty()) return root_;
    const auto known = modules_.find(dotted);
    if (known != modules_.end()) return known->second;
    const std::size_t dot = dotted.rfind('.');
    torch::jit::Module& parent = at(dot == std::string::npos ? "" : dotted.substr(0, dot));
    const torch::jit::Module child = new_module();
    parent.register_module(dot == std::string::npos ? dotted : dotted.substr(dot + 1), child);
    return modules_.emplace(dotted, child).first->second;
  }

 private:
  torch::jit::Module new_module() {
    // Every module is of a class of its own: their attributes differ.
    torch::jit::Module made(
        c10::QualifiedName("__torch__.voxnas.Part"), unit_, /*shouldMangle=*/true);
    made.register_attribute("training", c10::BoolType::get(), false);
    return made;
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_ =
      std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module root_;
  std::map<std::string, torch::jit::Module> modules_;
};

// ---- the rows of the table that are not functions of their own ----

void write_model_safetensors(const Model& model, const fs::path& file) {
  write_safetensors(file,
                    state_views(*model.network).views,
                    {{"format", "pt"},
                     {"network.json", to_json(model.network->graph()).dump()},
                     {kPreprocessingKey, preprocessing_text(model)}});
}

constexpr const char* kPytorchReadme = R"(# A network trained by VoxNAS

- `network.py`: the network as a PyTorch module; needs nothing but PyTorch.
- `weights.pt`: its state dict.
- `preprocessing.json`: how an image becomes network input, and the labels (docs/formats.md of VoxNAS).

```python
import torch
from network import Network

network = Network()
network.load_state_dict(torch.load("weights.pt"))
network.eval()
logits = network(image)  # float32 [N, C, D, H, W], preprocessed -> [N, K, D, H, W]
```
)";

void write_model_pytorch(const Model& model, const fs::path& folder) {
  write_file_atomic(folder / "network.py", python_source(model.network->graph()));
  c10::Dict<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : state_views(*model.network).tensors) state.insert(name, tensor);
  const std::vector<char> pickled = pickle_for_python(state);
  write_file_atomic(folder / "weights.pt", {pickled.data(), pickled.size()});
  write_file_atomic(folder / kPreprocessingKey, preprocessing_text(model) + "\n");
  write_file_atomic(folder / "README.md", kPytorchReadme);
}

}  // namespace

std::vector<char> pickle_for_python(const c10::IValue& value) {
  // As torch::pickle_save, but without its type tags, which are functions that safe loading
  // refuses.
  std::vector<char> bytes, archive;
  torch::jit::Pickler pickler(
      [&](const char* data, std::size_t size) { bytes.insert(bytes.end(), data, data + size); },
      nullptr,
      nullptr,
      nullptr,
      nullptr,
      /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(value);
  pickler.stop();
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* data, std::size_t size) {
    const char* first = static_cast<const char*>(data);
    archive.insert(archive.end(), first, first + size);
    return size;
  });
  torch::jit::writeArchiveAndTensors(
      "data", bytes.data(), bytes.size(), pickler.tensorData(), writer);
  writer.writeEndOfFile();
  return archive;
}

void write_model_torchscript(const Model& model, const fs::path& file) {
  const Graph& graph = model.network->graph();
  const std::vector<TorchScriptPart> parts = torchscript_source(graph);
  const StateViews state = state_views(*model.network);
  ScriptBuilder builder;
  const Graph inference = first_output_only(graph);
  const std::vector<std::vector<StateTensor>> states = graph_state(inference);
  for (std::size_t i = 0; i < inference.nodes.size(); ++i) {
    const std::string& node = inference.nodes[i].name;
    for (const StateTensor& tensor : states[i]) {
      builder.at(node).register_parameter(
          tensor.name, state.tensors.at(node + "." + tensor.name), /*is_buffer=*/!tensor.learnable);
    }
  }
  for (const TorchScriptPart& part : parts) builder.at(part.node).define(part.source);
  const torch::jit::ExtraFilesMap extra{{kPreprocessingKey, preprocessing_text(model)}};
  write_path_atomic(
      file, [&](const fs::path& temporary) { builder.at("").save(temporary.string(), extra); });
}

const std::vector<ExportFormat>& export_formats() {
  static const std::vector<ExportFormat> table = {
      {.name = "onnx",
       .writes = "ONNX model, opset 17, any batch and space, preprocessing as metadata",
       .suffix = ".onnx",
       .write = write_model_onnx},
      {.name = "torchscript",
       .writes = "TorchScript module for Python and C++, preprocessing as an extra file",
       .suffix = ".ts",
       .write = write_model_torchscript},
      {.name = "safetensors",
       .writes = "weights, with the graph and the preprocessing as metadata",
       .suffix = ".safetensors",
       .write = write_model_safetensors},
      {.name = "pytorch",
       .writes = "folder: network.py, weights.pt, preprocessing.json, README.md",
       .suffix = "-pytorch",
       .folder = true,
       .write = write_model_pytorch},
      {.name = "monai-bundle",
       .writes = "folder: MONAI bundle with model.ts and an inference configuration",
       .suffix = "-bundle",
       .folder = true,
       .write = write_monai_bundle},
      {.name = "nnunet",
       .writes = "folder: nnU-Net 2 results (planned U-Nets only)",
       .suffix = "-nnunet",
       .folder = true,
       .write = write_nnunet_model},
  };
  return table;
}

const ExportFormat& export_format(const std::string& name) {
  std::vector<std::string> names;
  for (const ExportFormat& format : export_formats()) {
    if (format.name == name) return format;
    names.push_back(format.name);
  }
  std::string known;
  for (const std::string& text : names) known += (known.empty() ? "" : ", ") + text;
  const std::string near = nearest_word(name.substr(0, 64), names);
  fail(ErrorKind::Usage,
       "export format: expected one of ",
       known,
       "; found '",
       name.substr(0, 64),
       "'",
       near.empty() ? "" : "; did you mean '" + near + "'?");
}

fs::path export_model(const fs::path& model_folder, const std::string& format, fs::path out) {
  const ExportFormat& row = export_format(format);
  if (out.empty()) {
    fs::path stem = fs::absolute(model_folder).lexically_normal();
    if (!stem.has_filename()) stem = stem.parent_path();  // "RUN/model/"
    out = stem.filename().string() + row.suffix;
  }
  if (!out.has_filename()) out = out.parent_path();  // "OUT/"
  NAS_CHECK_KIND(Usage,
                 !fs::exists(out),
                 out.string(),
                 ": exists already; remove it or give another name with -o");
  const Model model = load_model(model_folder);
  if (!row.folder) {
    row.write(model, out);
    return out;
  }
  create_parent_folder(out);
  const fs::path staging = temporary_name(out);
  try {
    fs::create_directory(staging);
    row.write(model, staging);
    commit_temporary(staging, out);
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove_all(staging, ignored);
    fail(ErrorKind::Io, out.string(), ": ", error.code().message());
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(staging, ignored);
    throw;
  }
  return out;
}

}  // namespace nas
