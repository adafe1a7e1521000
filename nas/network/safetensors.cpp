// SPDX-License-Identifier: Apache-2.0
#include "nas/network/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"

namespace nas {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors are little endian; swap bytes here first");

constexpr std::uint64_t kMaxHeaderBytes = 32 << 20;
constexpr std::size_t kMaxRank = 16;
constexpr std::size_t kMaxTensors = 1'000'000;

struct DTypeRow {
  DType dtype;
  std::string_view text;
  std::size_t bytes;
};
constexpr DTypeRow kDTypes[] = {
    {DType::F64, "F64", 8},
    {DType::I64, "I64", 8},
    {DType::U64, "U64", 8},
    {DType::F32, "F32", 4},
    {DType::I32, "I32", 4},
    {DType::U32, "U32", 4},
    {DType::F16, "F16", 2},
    {DType::BF16, "BF16", 2},
    {DType::I16, "I16", 2},
    {DType::U16, "U16", 2},
    {DType::U8, "U8", 1},
    {DType::I8, "I8", 1},
    {DType::Bool, "BOOL", 1},
};

const DTypeRow& row_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

/// Bytes of a tensor; false where the product does not fit into 63 bits.
bool tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape, std::int64_t& bytes) {
  bytes = static_cast<std::int64_t>(bytes_per_element(dtype));
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return false;
  }
  return true;
}

std::uint64_t unsigned_number(const Json& value, const std::string& where) {
  NAS_CHECK(value.is_number_unsigned(),
            where,
            ": expected a non-negative integer, found ",
            value.dump().substr(0, 40));
  const auto number = value.get<std::uint64_t>();
  NAS_CHECK(number <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()),
            where,
            ": ",
            number,
            " is too large");
  return number;
}

float half_to_float(std::uint16_t half) {
  const int exponent = (half >> 10) & 0x1f;
  const int mantissa = half & 0x3ff;
  const float sign = (half & 0x8000) ? -1.0f : 1.0f;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  if (exponent == 31) {
    return mantissa ? std::numeric_limits<float>::quiet_NaN()
                    : sign * std::numeric_limits<float>::infinity();
  }
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

template <class T, class Convert>
void convert_all(const TensorView& tensor, std::vector<float>& out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, tensor.bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = convert(value);
  }
}

}  // namespace

std::size_t bytes_per_element(DType dtype) { return row_of(dtype).bytes; }
std::string to_text(DType dtype) { return std::string(row_of(dtype).text); }

std::int64_t TensorView::elements() const {
  return static_cast<std::int64_t>(bytes.size() / bytes_per_element(dtype));
}

std::vector<float> to_floats(const TensorView& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  const auto plain = [](auto value) { return static_cast<float>(value); };
  switch (tensor.dtype) {
    case DType::F64:
      convert_all<double>(tensor, out, plain);
      break;
    case DType::F32:
      convert_all<float>(tensor, out, plain);
      break;
    case DType::F16:
      convert_all<std::uint16_t>(tensor, out, half_to_float);
      break;
    case DType::BF16:
      convert_all<std::uint16_t>(tensor, out, [](std::uint16_t v) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(v) << 16);
      });
      break;
    case DType::I64:
      convert_all<std::int64_t>(tensor, out, plain);
      break;
    case DType::U64:
      convert_all<std::uint64_t>(tensor, out, plain);
      break;
    case DType::I32:
      convert_all<std::int32_t>(tensor, out, plain);
      break;
    case DType::U32:
      convert_all<std::uint32_t>(tensor, out, plain);
      break;
    case DType::I16:
      convert_all<std::int16_t>(tensor, out, plain);
      break;
    case DType::U16:
      convert_all<std::uint16_t>(tensor, out, plain);
      break;
    case DType::I8:
      convert_all<std::int8_t>(tensor, out, plain);
      break;
    case DType::U8:
      convert_all<std::uint8_t>(tensor, out, plain);
      break;
    case DType::Bool:
      fail(ErrorKind::Input, "to_floats: expected a tensor of numbers, found BOOL");
  }
  return out;
}

TensorView view_floats(std::span<const float> values, std::vector<std::int64_t> shape) {
  std::int64_t bytes = 0;
  NAS_CHECK_KIND(Shape,
                 tensor_bytes(DType::F32, shape, bytes) &&
                     static_cast<std::size_t>(bytes) == values.size_bytes(),
                 "view_floats: the shape does not have ",
                 values.size(),
                 " elements");
  return {DType::F32, std::move(shape), std::as_bytes(values)};
}

const TensorView& Safetensors::at(std::string_view name, std::string_view where) const {
  const auto found = tensors.find(name);
  NAS_CHECK(found != tensors.end(), where, ": tensor '", name, "' is missing");
  return found->second;
}

Safetensors parse_safetensors(std::span<const std::byte> bytes, const std::string& where) {
  NAS_CHECK(bytes.size() >= 10,
            where,
            ": expected a safetensors file, found only ",
            bytes.size(),
            " bytes");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  NAS_CHECK(
      header_bytes >= 2 && header_bytes <= kMaxHeaderBytes && header_bytes <= bytes.size() - 8,
      where,
      ": header length ",
      header_bytes,
      " does not fit a file of ",
      bytes.size(),
      " bytes (at most ",
      kMaxHeaderBytes,
      ")");
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8,
                                static_cast<std::size_t>(header_bytes));
  NAS_CHECK(header.front() == '{', where, ": expected a header that begins with '{'");
  const std::span<const std::byte> data = bytes.subspan(8 + static_cast<std::size_t>(header_bytes));
  const Json json = parse_json(header, where + " (header)");
  NAS_CHECK(json.is_object() && json.size() <= kMaxTensors,
            where,
            ": expected a header of at most ",
            kMaxTensors,
            " tensors");

  Safetensors result;
  struct Range {
    std::uint64_t begin, end;
    const std::string* name;
  };
  std::vector<Range> ranges;
  for (const auto& [name, entry] : json.items()) {
    const std::string here = where + ": tensor '" + name.substr(0, 200) + "'";
    NAS_CHECK(entry.is_object(), here, ": expected an object");
    if (name == "__metadata__") {
      for (const auto& [key, value] : entry.items()) {
        NAS_CHECK(
            value.is_string(), where, ": __metadata__.", key.substr(0, 64), ": expected text");
        result.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    NAS_CHECK(entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"),
              here,
              ": expected dtype, shape and data_offsets");
    TensorView view;
    const Json& dtype = entry["dtype"];
    const auto row = std::ranges::find_if(kDTypes, [&](const DTypeRow& known) {
      return dtype.is_string() && dtype.get_ref<const std::string&>() == known.text;
    });
    NAS_CHECK(row != std::end(kDTypes),
              here,
              ": unknown dtype ",
              dtype.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 40));
    view.dtype = row->dtype;
    const Json& shape = entry["shape"];
    NAS_CHECK(shape.is_array() && shape.size() <= kMaxRank,
              here,
              ": shape: expected a list of at most ",
              kMaxRank,
              " sizes");
    for (const Json& size : shape) {
      view.shape.push_back(static_cast<std::int64_t>(unsigned_number(size, here + ".shape")));
    }
    const Json& offsets = entry["data_offsets"];
    NAS_CHECK(
        offsets.is_array() && offsets.size() == 2, here, ": data_offsets: expected [begin, end]");
    const std::uint64_t begin = unsigned_number(offsets[0], here + ".data_offsets");
    const std::uint64_t end = unsigned_number(offsets[1], here + ".data_offsets");
    NAS_CHECK(begin <= end && end <= data.size(),
              here,
              ": data_offsets [",
              begin,
              ", ",
              end,
              "] leave the ",
              data.size(),
              " data bytes");
    std::int64_t expected = 0;
    NAS_CHECK(tensor_bytes(view.dtype, view.shape, expected) &&
                  static_cast<std::uint64_t>(expected) == end - begin,
              here,
              ": dtype and shape do not need the ",
              end - begin,
              " bytes of data_offsets");
    view.bytes =
        data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    const auto [place, added] = result.tensors.emplace(name, std::move(view));
    ranges.push_back({begin, end, &place->first});
  }
  std::ranges::sort(ranges, [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t next = 0;
  for (const Range& range : ranges) {
    NAS_CHECK(range.begin == next,
              where,
              ": tensor '",
              range.name->substr(0, 200),
              "' begins at byte ",
              range.begin,
              " where ",
              next,
              " is expected: a gap or an overlap");
    next = range.end;
  }
  NAS_CHECK(
      next == data.size(), where, ": ", data.size() - next, " data bytes belong to no tensor");
  return result;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& file)
    : where_(file.string()), map_(file), content_(parse_safetensors(map_.bytes(), where_)) {}

void write_safetensors(const std::filesystem::path& file,
                       const std::map<std::string, TensorView, std::less<>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<const std::string, TensorView>*> order;
  for (const auto& item : tensors) order.push_back(&item);
  // kDTypes is sorted by width.
  std::ranges::stable_sort(
      order, [](const auto* a, const auto* b) { return a->second.dtype < b->second.dtype; });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t next = 0;
  for (const auto* item : order) {
    const auto& [name, view] = *item;
    std::int64_t expected = 0;
    NAS_CHECK(name != "__metadata__" && !name.empty(),
              file.string(),
              ": a tensor cannot be named '",
              name,
              "'");
    NAS_CHECK_KIND(Shape,
                   tensor_bytes(view.dtype, view.shape, expected) &&
                       static_cast<std::size_t>(expected) == view.bytes.size(),
                   file.string(),
                   ": tensor '",
                   name,
                   "': dtype and shape do not need its ",
                   view.bytes.size(),
                   " bytes");
    header[name] = {{"dtype", to_text(view.dtype)},
                    {"shape", view.shape},
                    {"data_offsets", {next, next + view.bytes.size()}}};
    next += view.bytes.size();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  NAS_CHECK(text.size() <= kMaxHeaderBytes,
            file.string(),
            ": the header would have ",
            text.size(),
            " bytes, at most ",
            kMaxHeaderBytes,
            " are allowed");
  write_path_atomic(file, [&](const std::filesystem::path& temporary) {
    std::ofstream out(temporary, std::ios::binary);
    const std::uint64_t length = text.size();
    out.write(reinterpret_cast<const char*>(&length), 8);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
    for (const auto* item : order) {
      const auto& bytes = item->second.bytes;
      out.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
    }
    out.close();
    NAS_CHECK_KIND(Io, out.good(), file.string(), ": writing failed (disk full?)");
  });
}

}  // namespace nas
