// SPDX-License-Identifier: Apache-2.0
#include "nas/network/safetensors.h"

#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string file_bytes(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

std::string error_of(const std::string& bytes) {
  try {
    const Safetensors parsed =
        parse_safetensors(std::as_bytes(std::span(bytes)), "test.safetensors");
    for (const auto& [name, tensor] : parsed.tensors) {
      if (tensor.dtype != DType::Bool) to_floats(tensor);
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Safetensors, RoundTripKeepsBytesShapesAndMetadata) {
  const test::TempFolder folder;
  const std::vector<float> weights{1.5f, -2, 0, 3e-38f, std::numeric_limits<float>::infinity(), 6};
  const std::vector<std::int64_t> indices{-1, std::numeric_limits<std::int64_t>::max()};
  const std::vector<std::uint8_t> mask{1, 0, 1};
  const std::vector<std::uint16_t> halves{0x3c00, 0xc000, 0x0001, 0x7c00};
  std::map<std::string, TensorView, std::less<>> tensors;
  tensors["mask"] = {DType::Bool, {3}, std::as_bytes(std::span(mask))};
  tensors["a.weight"] = view_floats(weights, {2, 3, 1});
  tensors["indices"] = {DType::I64, {2}, std::as_bytes(std::span(indices))};
  tensors["half"] = {DType::F16, {2, 2}, std::as_bytes(std::span(halves))};
  tensors["bhalf"] = {DType::BF16, {4}, std::as_bytes(std::span(halves))};
  tensors["empty"] = view_floats(std::span(weights).first(0), {0, 5});
  tensors["scalar"] = view_floats(std::span(weights).first(1), {});
  write_safetensors(folder / "x.safetensors", tensors, {{"made by", "a \"test\""}});

  const SafetensorsFile file(folder / "x.safetensors");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const TensorView& read = file.at(name);
    EXPECT_EQ(read.dtype, tensor.dtype) << name;
    EXPECT_EQ(read.shape, tensor.shape) << name;
    ASSERT_EQ(read.bytes.size(), tensor.bytes.size()) << name;
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(read.bytes.data()), read.bytes.size()),
              std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.bytes.data()) % bytes_per_element(read.dtype),
              0u)
        << name;
  }
  EXPECT_EQ(file.metadata().at("made by"), "a \"test\"");
  EXPECT_EQ(to_floats(file.at("a.weight")), weights);
  EXPECT_THAT(to_floats(file.at("half")),
              ElementsAre(1, -2, 0x1p-24f, std::numeric_limits<float>::infinity()));
  EXPECT_FLOAT_EQ(to_floats(file.at("bhalf"))[0], std::bit_cast<float>(0x3c000000u));
  EXPECT_THROW(file.at("absent"), Error);
}

TEST(Safetensors, ReadsTheOracles) {
  NAS_SHARED_OR_SKIP(path, "oracles/plain_unet_forward.safetensors");
  const SafetensorsFile file(path);
  EXPECT_THAT(file.at("input").shape, ElementsAre(2, 2, 12, 24, 24));
  EXPECT_THAT(file.at("weight.encoder.stages.0.0.convs.0.conv.weight").shape,
              ElementsAre(4, 2, 1, 3, 3));
  EXPECT_THAT(file.metadata().at("gradient_of"), HasSubstr("mean"));
  EXPECT_EQ(to_floats(file.at("gradient_norms")).size(), 40u);
}

TEST(Safetensors, LyingHeadersAreNamed) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(error_of(file_bytes(good, 8)), "");
  EXPECT_THAT(error_of(file_bytes(good, 9)), HasSubstr("belong to no tensor"));
  EXPECT_THAT(error_of(file_bytes(good, 7)), HasSubstr("'a'"));
  EXPECT_THAT(error_of(""), HasSubstr("only 0 bytes"));
  std::string huge = file_bytes(good, 8);
  huge[6] = '\x7f';
  EXPECT_THAT(error_of(huge), HasSubstr("header length"));
  const auto header = [](const std::string& text) { return error_of(file_bytes(text, 8)); };
  EXPECT_THAT(header(" " + good), HasSubstr("begins with '{'"));
  EXPECT_THAT(header(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})"),
              HasSubstr("unknown dtype"));
  EXPECT_THAT(header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"),
              HasSubstr("do not need the 8 bytes"));
  EXPECT_THAT(
      header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}})"),
      HasSubstr("do not need"));
  EXPECT_THAT(header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"),
              HasSubstr("non-negative"));
  EXPECT_THAT(header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"),
              HasSubstr("leave the 8"));
  EXPECT_THAT(
      header(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],)"
          R"("data_offsets":[0,8]}})"),
      HasSubstr("overlap"));
  EXPECT_THAT(header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
              HasSubstr("gap"));
  EXPECT_THAT(header(R"({"a":[1]})"), HasSubstr("expected an object"));
  EXPECT_THAT(header(R"({"__metadata__":{"k":1}})"), HasSubstr("__metadata__.k"));
}

TEST(Safetensors, DamagedBytesNeverDoMoreThanThrowAnError) {
  const std::string good = file_bytes(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16",)"
      R"("shape":[2,3],"data_offsets":[8,20]}})",
      20);
  ASSERT_EQ(error_of(good), "");
  for (std::size_t cut = 0; cut < good.size(); ++cut) EXPECT_NE(error_of(good.substr(0, cut)), "");
  Rng rng("safetensors-fuzz");
  for (int i = 0; i < 20'000; ++i) {
    std::string bad = good;
    for (std::int64_t k = rng.integer(1, 4); k > 0; --k) {
      const auto at =
          static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(bad.size())));
      bad[at] = static_cast<char>(rng.chance(0.7) ? bad[at] ^ (1 << rng.integer(0, 8))
                                                  : rng.integer(0, 256));
    }
    error_of(bad);
  }
}

TEST(Safetensors, WritingChecksTheViews) {
  const test::TempFolder folder;
  const std::vector<float> values(4);
  EXPECT_THROW(view_floats(values, {5}), Error);
  EXPECT_THROW(
      write_safetensors(folder / "x", {{"a", {DType::F32, {3}, std::as_bytes(std::span(values))}}}),
      Error);
  EXPECT_THROW(write_safetensors(folder / "x", {{"__metadata__", view_floats(values, {4})}}),
               Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

}  // namespace
}  // namespace nas
