// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "nas/network/graph.h"

namespace nas {

/// A module or loss that a user wrote in PyTorch and saved with torch.jit.script(module).save(file).
/// It is the user's code and runs with our rights: opened only where a network or loss names it.
///
/// Runs in float32, in the memory order NCDHW, without the optimizing executor, so that a step is
/// the same whether it is the first of a process or not.
class ScriptFile {
 public:
  /// \param hash of the file (hash_file); "": not checked. \param settings a JSON object: values
  /// for attributes of the module, which are numbers, true or false, or text (`self.smooth = 1e-5`
  /// in its __init__); "": as they lie in the file. \throws Error(Io|Input) naming the file: it is
  /// missing, another one than `hash` says, or no TorchScript; or the attribute, its type and the
  /// nearest one that there is.
  explicit ScriptFile(const std::filesystem::path& file,
                      const std::string& hash = {},
                      const std::string& settings = {});
  ~ScriptFile();
  ScriptFile(const ScriptFile&) = delete;
  ScriptFile& operator=(const ScriptFile&) = delete;

  /// Its own tensors, by dotted name.
  std::vector<std::pair<std::string, at::Tensor>> parameters() const;
  std::vector<std::pair<std::string, at::Tensor>> buffers() const;

  /// The result of forward(inputs...), or the first of a tuple or list of results.
  /// \param training what self.training is. \param stream of its random numbers (dropout).
  /// \throws Error(Input) naming the file and what the module says.
  at::Tensor run(const std::vector<at::Tensor>& inputs, bool training, std::uint64_t stream) const;

  /// Writes the module with its present weights, in evaluation mode; its first result alone.
  void save(const std::filesystem::path& file,
            const std::vector<std::pair<std::string, std::string>>& extra_files) const;

  const std::filesystem::path& file() const { return file_; }

 private:
  struct Module;
  std::filesystem::path file_;
  std::unique_ptr<Module> module_;
  mutable bool training_ = true;
};

/// A node "torchscript" (nas/network/file_nodes.h) as a part of a GraphModule: its parameters are
/// those of the file, whatever the seed, under their own names.
class ScriptModule : public torch::nn::Module {
 public:
  /// \throws as ScriptFile.
  explicit ScriptModule(const Node& node);
  /// Logits of `image`. \throws Error(Input|Shape) naming the file.
  at::Tensor run(const at::Tensor& image, bool training, std::uint64_t stream) const;
  const ScriptFile& script() const { return script_; }

 private:
  ScriptFile script_;
  std::int64_t classes_;
};
/// The first one in `network`; nullptr: none.
std::shared_ptr<const ScriptModule> script_module(const torch::nn::Module& network);

/// `graph` whose TorchScript file, if it has one, is a copy in `folder`, network.ts.
Graph with_own_files(const std::filesystem::path& folder, Graph graph);

/// Tries the network of a file on a dummy patch: that it gives `out_channels` at the input's size,
/// and which multiple of voxels it takes (1, 2, 4, ... 32). Says shapes and parameters in the log,
/// once: what was tried is known to the process.
/// \param graph with one such node; its `multiple` is filled in. Other graphs stay.
/// \throws Error(Input|Shape) naming the file, what it was given and what it gave.
void probe_script(Graph& graph, const Extent3& patch);

}  // namespace nas
