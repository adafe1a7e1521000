// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/files.h"

namespace nas {

/// The weights in a model folder, and in the folder of a trial whose weights others start from.
inline constexpr const char* kWeightsFile = "weights.safetensors";

/// Element types of safetensors files, little endian.
enum class DType { F64, I64, U64, F32, I32, U32, F16, BF16, I16, U16, U8, I8, Bool };
std::size_t bytes_per_element(DType dtype);
std::string to_text(DType dtype);  // "F32", as in the file

/// A tensor that lies elsewhere: row-major, little endian. Bytes need not be aligned: copy before
/// use as numbers.
struct TensorView {
  DType dtype = DType::F32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::int64_t elements() const;
};

/// A tensor as float, whatever number it was. \throws Error(Input) for Bool.
std::vector<float> to_floats(const TensorView& tensor);
/// A view of floats that the caller keeps alive. \throws Error(Shape) unless the shape has as many
/// elements.
TensorView view_floats(std::span<const float> values, std::vector<std::int64_t> shape);

/// What a safetensors file holds; the views point into the bytes that were parsed.
struct Safetensors {
  std::map<std::string, TensorView, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
  const TensorView& at(std::string_view name,
                       std::string_view where = "safetensors") const;  // \throws Error(Input)
};

/// Reads the header and checks all of it: its length against the bytes, types, shapes, and that the
/// tensors fill the data part without a gap or overlap. \throws Error(Input) naming `where`, the
/// tensor, what was expected and what was found.
Safetensors parse_safetensors(std::span<const std::byte> bytes, const std::string& where);

/// A memory-mapped safetensors file; views stay valid while it lives.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& file);  // \throws Error(Io|Input)
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return content_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return content_.metadata; }
  bool has(std::string_view name) const {
    return content_.tensors.find(name) != content_.tensors.end();
  }
  const TensorView& at(std::string_view name) const { return content_.at(name, where_); }

 private:
  std::string where_;
  MappedFile map_;
  Safetensors content_;
};

/// Writes atomically; wide element types first so that every tensor is aligned. \throws
/// Error(Io|Input|Shape).
void write_safetensors(const std::filesystem::path& file,
                       const std::map<std::string, TensorView, std::less<>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace nas
