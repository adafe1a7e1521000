// SPDX-License-Identifier: Apache-2.0
#include "training/exchange/export.h"

#include <utility>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/text.h"
#include "nas/network/torch_source.h"
#include "training/exchange/monai_bundle.h"
#include "training/exchange/nnunet.h"
#include "training/exchange/torchscript.h"
#include "training/model/state_views.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

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
  fail(ErrorKind::Usage,
       "export format: expected one of ",
       joined(names),
       "; found '",
       name.substr(0, 64),
       "'",
       did_you_mean(name, names));
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
