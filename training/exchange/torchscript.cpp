// SPDX-License-Identifier: Apache-2.0
#include "training/exchange/torchscript.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/pickler.h>
#include <torch/script.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/network/operations.h"
#include "nas/network/torch_source.h"
#include "training/model/script_file.h"
#include "training/model/state_views.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

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
  if (const auto module = script_module(*model.network)) {
    write_path_atomic(file, [&](const fs::path& temporary) {
      module->script().save(temporary, {{kPreprocessingKey, preprocessing_text(model)}});
    });
    return;
  }
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
  write_path_atomic(file, [&](const fs::path& temporary) {
    // Through a stream: as a file's name LibTorch takes only one with a dot.
    std::ofstream out(temporary, std::ios::binary);
    if (out) builder.at("").save(out, extra);
    out.close();
    NAS_CHECK_KIND(Io, out.good(), "cannot write ", file.string(), ": ", std::strerror(errno));
  });
}

}  // namespace nas
