// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "nas/network/graph.h"
#include "nas/network/safetensors.h"

namespace nas {

/// Names of a written model's input and output.
inline constexpr const char* kOnnxInput = "image";
inline constexpr const char* kOnnxOutput = "pred";

struct OnnxOptions {
  std::map<std::string, std::string> metadata = {};  // metadata_props
  std::string producer_version = {};
  /// Bytes of weights that may lie inside the file; beyond that all go to "<file>.data" beside it
  /// (protobuf's limit is 2 GiB for a message).
  std::int64_t inline_bytes = 1'900'000'000;
};

/// Whether every node has a form in ONNX: not those of files, nor operations of a program outside.
bool has_onnx_form(const Graph& graph);

/// Writes a closed graph with one input for inference: opset 17, IR 8. Input `image`
/// [N, C, D, H, W] and output `pred` [N, K, D_pred, H_pred, W_pred], float32 logits of the finest
/// output; all sizes but C and K are free. Initialisers are named as in the state dict. Dropout is
/// left out, crops to another tensor are computed from its size.
///
/// The file is checked (check_onnx) before it appears by rename.
/// \param weights by state-dict name, at least those of the finest output.
/// \throws Error(Usage) on open choices, Error(Input) naming a node that ONNX cannot express or a
/// tensor that is missing or of another shape, Error(Io).
void write_onnx(const std::filesystem::path& file,
                const Graph& graph,
                const std::map<std::string, TensorView, std::less<>>& weights,
                const OnnxOptions& options = {});

/// What a written model says about itself.
struct OnnxSummary {
  std::int64_t opset = 0, ir_version = 0;
  std::int64_t nodes = 0, initializers = 0;
  std::map<std::string, std::string> metadata;
};
/// Reads a file of ours back and checks its structure: every value is computed once and before its
/// use, nothing is computed in vain, initialisers have the bytes that their sizes need (external
/// ones within their file). \throws Error(Input|Io) naming file, node or value.
OnnxSummary check_onnx(const std::filesystem::path& file);

}  // namespace nas
