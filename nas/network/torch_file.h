// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/files.h"
#include "nas/network/safetensors.h"

namespace nas {

/// Where a tensor of a torch.save file lies: elements `offset + sum_i index_i * stride_i` of a
/// storage.
struct PickledTensor {
  std::string storage;  // name of the archive's entry data/<storage>
  DType dtype = DType::F32;
  std::int64_t offset = 0;  // elements
  std::vector<std::int64_t> shape, stride;
};

/// One value of a pickle. Objects of classes other than the tensors' and containers' are Opaque:
/// known to be there, never made.
struct PickleValue {
  enum class Kind { None, Bool, Integer, Real, Text, List, Tuple, Dict, Tensor, Global, Opaque };
  Kind kind = Kind::None;
  std::int64_t integer = 0;  // Bool: 0 or 1
  double real = 0;
  std::string text;                       // Text; Global, Opaque: "module name"
  std::vector<const PickleValue*> items;  // List, Tuple; Dict: key, value, key, value, ...
  std::unique_ptr<PickledTensor> tensor;

  /// Value of a text key of a dict; the last one wins. nullptr: not there, or no dict.
  const PickleValue* find(std::string_view key) const;
};

/// Builds the value of a pickle (protocols 2 to 5) without running any of it: opcodes make numbers,
/// texts, lists, tuples, dictionaries and references to tensors; a call of anything else gives
/// Opaque. \param values owns every value; they may refer to each other in circles. \throws
/// Error(Input) naming `where`, the byte, and what is damaged or not understood.
const PickleValue& read_pickle(std::span<const std::byte> bytes,
                               const std::string& where,
                               std::deque<PickleValue>& values);

/// What torch.save wrote (the zip format, PyTorch 1.6 and later): `read_pickle` of its structure,
/// and the tensors' elements. Memory is bounded by a multiple of the file's size. Source of the
/// format: Python's pickletools and torch/serialization.py (entries data.pkl, data/<n>, byteorder).
class TorchFile {
 public:
  /// \throws Error(Io|Input) naming the file, and what is damaged or not understood.
  explicit TorchFile(const std::filesystem::path& file);
  /// The same from bytes that outlive the object.
  TorchFile(std::span<const std::byte> bytes, std::string where);
  ~TorchFile();
  TorchFile(const TorchFile&) = delete;
  TorchFile& operator=(const TorchFile&) = delete;

  const PickleValue& root() const { return *root_; }

  /// Elements of a Tensor value in row-major order. \throws Error(Input) if the value is no tensor,
  /// or reaches beyond its storage.
  std::vector<float> floats(const PickleValue& tensor) const;

 private:
  struct Archive;
  void read(std::span<const std::byte> bytes);

  std::string where_;
  std::optional<MappedFile> map_;
  std::unique_ptr<Archive> archive_;
  std::deque<PickleValue> values_;
  const PickleValue* root_ = nullptr;
};

}  // namespace nas
