// SPDX-License-Identifier: Apache-2.0
#include "training/model/weights.h"

#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "nas/core/error.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "training/model/state_views.h"

namespace nas {
namespace {

at::Tensor to_tensor(const TensorView& view) {
  const auto values = std::make_shared<std::vector<float>>(to_floats(view));
  return torch::from_blob(
      values->data(), view.shape, [values](void*) {}, at::kFloat);
}

/// Channels of a wide network's value that the narrow one has too, ascending; empty: not known.
using SharedChannels = std::vector<std::int64_t>;

SharedChannels first_channels(std::int64_t count) {
  SharedChannels channels(static_cast<std::size_t>(count));
  std::iota(channels.begin(), channels.end(), 0);
  return channels;
}

/// Those of a merge.
SharedChannels merged_channels(const Node& node,
                               const std::vector<SharedChannels>& shared,
                               const std::vector<std::int64_t>& channels) {
  SharedChannels result;
  std::int64_t offset = 0;
  for (const int input : node.inputs) {
    const auto i = static_cast<std::size_t>(input);
    if (shared[i].empty()) return {};
    if (node.op == "concat") {
      for (const std::int64_t channel : shared[i]) result.push_back(offset + channel);
      offset += channels[i];
    } else {
      if (input != node.inputs.front() && shared[i] != result) return {};
      result = shared[i];
    }
  }
  return result;
}

/// Puts the weight of a convolution into the part of a wider one that belongs to shared channels,
/// and 0 where a shared result would read another channel. \returns whether it fits.
bool widen(const TensorView& narrow,
           const at::Tensor& wide,
           std::int64_t out_axis,
           const SharedChannels& in) {
  const at::IntArrayRef shape(narrow.shape);
  if (in.empty() || std::ssize(shape) != wide.dim()) return false;
  const auto out = static_cast<std::size_t>(out_axis);
  const bool fits = shape[out] <= wide.size(out_axis) && shape[1 - out] == std::ssize(in) &&
                    shape.slice(2) == wide.sizes().slice(2);
  if (!fits) return false;
  at::Tensor results = wide.narrow(out_axis, 0, shape[out]);
  results.zero_();
  results.index_copy_(1 - out_axis, torch::tensor(in), to_tensor(narrow));
  return true;
}

WeightTransfer copy_matching(const SafetensorsFile& stored, torch::nn::Module& module) {
  WeightTransfer transfer;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      const bool agrees = stored.has(item.key()) &&
                          at::IntArrayRef(stored.at(item.key()).shape) == item.value().sizes();
      if (agrees) item.value().copy_(to_tensor(stored.at(item.key())));
      (agrees ? transfer.copied : transfer.own_start).push_back(item.key());
    }
  }
  return transfer;
}

}  // namespace

void save_weights(const std::string& file, const torch::nn::Module& module) {
  write_safetensors(file, state_views(module).views, {{"format", "pt"}});
}

void load_weights(const std::string& file, torch::nn::Module& module) {
  const SafetensorsFile stored(file);
  std::set<std::string> known;
  const at::NoGradGuard no_grad;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      known.insert(item.key());
      NAS_CHECK(stored.has(item.key()),
                file,
                ": tensor ",
                item.key(),
                " is missing; this is not a file of this network");
      const TensorView& view = stored.at(item.key());
      const at::Tensor& target = item.value();
      NAS_CHECK(at::IntArrayRef(view.shape) == target.sizes(),
                file,
                ": tensor ",
                item.key(),
                ": expected shape ",
                target.sizes(),
                ", found ",
                at::IntArrayRef(view.shape));
      target.copy_(to_tensor(view));
    }
  }
  for (const auto& [name, view] : stored.tensors()) {
    NAS_CHECK(known.contains(name), file, ": tensor ", name, " belongs to no node of the network");
  }
}

WeightTransfer load_matching_weights(const std::string& file, torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  return copy_matching(SafetensorsFile(file), module);
}

WeightTransfer load_narrower_weights(const std::string& file, GraphModuleImpl& module) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile stored(file);
  WeightTransfer transfer = copy_matching(stored, module);
  const Graph& graph = module.graph();
  if (transfer.own_start.empty() || !graph.is_closed()) return transfer;
  const std::set<std::string> copied(transfer.copied.begin(), transfer.copied.end());
  const std::vector<std::int64_t> channels = channel_counts(graph);
  const auto state = graph_state(graph);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) tensors.emplace(item.key(), item.value());
  }

  std::vector<SharedChannels> shared(graph.nodes.size());
  std::set<std::string> widened;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const OperationKind kind = operation(node).kind;
    if (kind == OperationKind::Input) {
      shared[n] = first_channels(channels[n]);
      continue;
    }
    const auto input = static_cast<std::size_t>(node.inputs[0]);
    const SharedChannels& in = shared[input];
    const bool convolves = kind == OperationKind::Convolution;
    if (kind == OperationKind::Merge) {
      shared[n] = merged_channels(node, shared, channels);
    } else if (!convolves && channels[n] == channels[input]) {
      shared[n] = in;
    }
    for (const StateTensor& item : state[n]) {  // of a convolution: the weight, then the bias
      const std::string name = node.name + "." + item.name;
      if (!stored.has(name)) continue;
      if (copied.contains(name)) {
        if (convolves) shared[n] = first_channels(channels[n]);
        continue;
      }
      const TensorView& narrow = stored.at(name);
      const SharedChannels& results = convolves ? shared[n] : in;  // that a bias or norm belongs to
      bool fits = false;
      if (narrow.shape.size() > 1) {
        const std::int64_t out_axis = node.op == "conv_transpose" ? 1 : 0;
        const bool mixes = node.op != "conv" || attribute_int(node, "groups") == 1;
        fits = mixes && widen(narrow, tensors.at(name), out_axis, in);
        if (fits) shared[n] = first_channels(narrow.shape[static_cast<std::size_t>(out_axis)]);
      } else if (narrow.shape.size() == 1 && narrow.shape[0] == std::ssize(results)) {
        tensors.at(name).index_copy_(0, torch::tensor(results), to_tensor(narrow));
        fits = true;
      }
      if (fits) widened.insert(name);
    }
  }
  transfer.widened = std::ssize(widened);
  transfer.copied.insert(transfer.copied.end(), widened.begin(), widened.end());
  std::erase_if(transfer.own_start,
                [&](const std::string& name) { return widened.contains(name); });
  return transfer;
}

}  // namespace nas
