// SPDX-License-Identifier: Apache-2.0
// Files in and out of imaging: NIfTI, data set folders, the doctor, phantoms and pictures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libdeflate.h>
#include <spng.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <set>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/rng.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/doctor.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/phantom.h"
#include "nas/imaging/png.h"
#include "nas/imaging/splits.h"
#include "tests/support/support.h"

namespace {
std::atomic<std::size_t> largest_request{0};

void* noted_new(std::size_t size) {
  std::size_t largest = largest_request.load();
  while (size > largest && !largest_request.compare_exchange_weak(largest, size)) {
  }
  void* block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
}  // namespace

void* operator new(std::size_t size) { return noted_new(size); }
void* operator new[](std::size_t size) { return noted_new(size); }
// std::stable_sort asks without throwing.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void operator delete(void* block, const std::nothrow_t&) noexcept { std::free(block); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- NIfTI -------------------------------------------------------------------------------------

/// A NIfTI file put together byte by byte from the offsets of the standard, without the reader's
/// structs.
class RawNifti {
 public:
  explicit RawNifti(int version = 1, bool big_endian = false)
      : version_(version), big_(big_endian) {
    bytes_.assign(version == 1 ? 352 : 544, '\0');
    put<std::int32_t>(0, 0, version == 1 ? 348 : 540);
    magic(version == 1 ? "n+1" : "n+2");
    if (version == 1) {
      put<float>(108, 108, 352);
    } else {
      put<std::int64_t>(168, 168, 544);
    }
    dims({3, 4, 3, 2, 1, 1, 1, 1});
    pixdim({1, 1, 1, 1, 1, 1, 1, 1});
  }
  RawNifti& magic(const std::string& text) {
    bytes_.replace(version_ == 1 ? 344 : 4, text.size(), text);
    return *this;
  }
  RawNifti& dims(const std::vector<std::int64_t>& dim) {
    for (std::size_t i = 0; i < dim.size(); ++i) {
      version_ == 1 ? put<std::int16_t>(40 + 2 * i, 0, dim[i])
                    : put<std::int64_t>(0, 16 + 8 * i, dim[i]);
    }
    return *this;
  }
  RawNifti& type(std::int64_t code, std::int64_t bits) {
    put<std::int16_t>(70, 12, code);
    put<std::int16_t>(72, 14, bits);
    return *this;
  }
  RawNifti& pixdim(const std::vector<double>& values) { return reals(76, 104, values); }
  RawNifti& scaling(double slope, double inter) { return reals(112, 176, {slope, inter}); }
  RawNifti& units(int code) {
    if (version_ == 1) {
      bytes_[123] = static_cast<char>(code);
    } else {
      put<std::int32_t>(0, 500, code);
    }
    return *this;
  }
  RawNifti& codes(int qform, int sform) {
    if (version_ == 1) {
      put<std::int16_t>(252, 0, qform), put<std::int16_t>(254, 0, sform);
    } else {
      put<std::int32_t>(0, 344, qform), put<std::int32_t>(0, 348, sform);
    }
    return *this;
  }
  RawNifti& quaternion(const std::vector<double>& bcd_xyz) { return reals(256, 352, bcd_xyz); }
  RawNifti& srow(const std::vector<double>& rows) { return reals(280, 400, rows); }
  template <class T>
  RawNifti& voxels(const std::vector<T>& values) {
    for (const T value : values) {
      bytes_.append(sizeof(T), '\0');
      store(bytes_.size() - sizeof(T), value);
    }
    return *this;
  }
  /// Writes a number at the offset for this version.
  template <class T>
  RawNifti& put(std::size_t at1, std::size_t at2, std::int64_t value) {
    store(version_ == 1 ? at1 : at2, static_cast<T>(value));
    return *this;
  }
  std::string str() const { return bytes_; }

 private:
  RawNifti& reals(std::size_t at1, std::size_t at2, const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      version_ == 1 ? store(at1 + 4 * i, static_cast<float>(values[i]))
                    : store(at2 + 8 * i, values[i]);
    }
    return *this;
  }
  template <class T>
  void store(std::size_t at, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    if (big_) std::reverse(raw, raw + sizeof(T));
    bytes_.replace(at, sizeof(T), raw, sizeof(T));
  }
  int version_;
  bool big_;
  std::string bytes_;
};

std::string gzip(const std::string& bytes) {
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
  std::string out(libdeflate_gzip_compress_bound(compressor, bytes.size()), '\0');
  out.resize(
      libdeflate_gzip_compress(compressor, bytes.data(), bytes.size(), out.data(), out.size()));
  libdeflate_free_compressor(compressor);
  return out;
}

std::span<const std::byte> as_span(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}
Image parse(const std::string& bytes) { return parse_nifti(as_span(bytes), "f.nii"); }
LabelMap parse_label(const std::string& bytes) {
  return parse_nifti_label(as_span(bytes), "f.nii");
}
NiftiHeader parse_header(const std::string& bytes) {
  return parse_nifti_header(as_span(bytes), "f.nii");
}

template <class T>
void expect_all_layouts_read(VoxelType type) {
  std::vector<T> stored(24);
  for (std::size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<T>(i);
  stored[5] = std::is_signed_v<T> ? static_cast<T>(-7) : static_cast<T>(7);
  stored[6] = std::numeric_limits<T>::max();
  for (const int version : {1, 2}) {
    for (const bool big : {false, true}) {
      for (const bool packed : {false, true}) {
        SCOPED_TRACE(concat_text(
            to_text(type), " version ", version, big ? " big" : " little", packed ? " gz" : ""));
        std::string file =
            RawNifti(version, big)
                .type(static_cast<std::int64_t>(type), 8 * static_cast<std::int64_t>(sizeof(T)))
                .pixdim({1, 0.5, 0.75, 2, 1, 1, 1, 1})
                .voxels(stored)
                .str();
        if (packed) file = gzip(file);
        const NiftiHeader header = parse_header(file);
        EXPECT_EQ(header.version, version);
        EXPECT_EQ(header.type, type);
        EXPECT_EQ(header.byte_swapped, big);
        const Image image = parse(file);
        EXPECT_EQ(image.geometry.shape, (Extent3{2, 3, 4}));  // D H W of x 4, y 3, z 2
        EXPECT_EQ(image.geometry.spacing_mm, (Vec3{2, 0.75, 0.5}));
        ASSERT_EQ(image.voxels.size(), stored.size());
        for (std::size_t i = 0; i < stored.size(); ++i)
          EXPECT_EQ(image.voxels[i], static_cast<float>(stored[i])) << i;
        std::vector<T> small = stored;
        small[6] = 127;
        std::string label_file =
            RawNifti(version, big)
                .type(static_cast<std::int64_t>(type), 8 * static_cast<std::int64_t>(sizeof(T)))
                .voxels(small)
                .str();
        const LabelMap label = parse_label(packed ? gzip(label_file) : label_file);
        for (std::size_t i = 0; i < small.size(); ++i)
          EXPECT_EQ(label.voxels[i], static_cast<std::int16_t>(small[i]));
      }
    }
  }
}

TEST(Nifti, ReadsEveryTypeInBothVersionsAndByteOrders) {
  expect_all_layouts_read<std::uint8_t>(VoxelType::UInt8);
  expect_all_layouts_read<std::int8_t>(VoxelType::Int8);
  expect_all_layouts_read<std::uint16_t>(VoxelType::UInt16);
  expect_all_layouts_read<std::int16_t>(VoxelType::Int16);
  expect_all_layouts_read<std::uint32_t>(VoxelType::UInt32);
  expect_all_layouts_read<std::int32_t>(VoxelType::Int32);
  expect_all_layouts_read<std::uint64_t>(VoxelType::UInt64);
  expect_all_layouts_read<std::int64_t>(VoxelType::Int64);
  expect_all_layouts_read<float>(VoxelType::Float32);
  expect_all_layouts_read<double>(VoxelType::Float64);
}

std::vector<std::int16_t> ramp(std::size_t n) {
  std::vector<std::int16_t> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<std::int16_t>(i);
  return values;
}

TEST(Nifti, AppliesSlopeAndInterceptUnlessTheyAreOpen) {
  for (const int version : {1, 2}) {
    const auto with = [&](double slope, double inter) {
      return parse(RawNifti(version).type(4, 16).scaling(slope, inter).voxels(ramp(24)).str())
          .voxels[10];
    };
    EXPECT_EQ(with(0.5, -3), 2.0f);
    EXPECT_EQ(with(0, 5), 10.0f);  // slope 0: not scaled, says the standard
    EXPECT_EQ(with(std::nan(""), 5), 10.0f);
    EXPECT_EQ(with(2, std::nan("")), 20.0f);
    // 10 * 0.1 is not 1 in binary, but a label all the same.
    EXPECT_EQ(parse_label(RawNifti(version)
                              .type(4, 16)
                              .scaling(0.1f, 0)
                              .voxels(std::vector<std::int16_t>(24, 10))
                              .str())
                  .voxels[0],
              1);
  }
}

TEST(Nifti, FourthDimensionBecomesChannelsFirst) {
  const auto image =
      parse(RawNifti().dims({4, 4, 3, 2, 2, 1, 1, 1}).type(4, 16).voxels(ramp(48)).str());
  EXPECT_EQ(image.channels, 2);
  EXPECT_EQ(image.channel(0)[0], 0.0f);
  EXPECT_EQ(image.channel(1)[0], 24.0f);
  EXPECT_EQ(image.channel(1)[(1 * 3 + 2) * 4 + 3], 47.0f);
  // Vector images leave time at 1.
  EXPECT_EQ(
      parse(RawNifti().dims({5, 4, 3, 2, 1, 2, 1, 1}).type(4, 16).voxels(ramp(48)).str()).channels,
      2);
  // A flat image has depth 1, and its third voxel size may be missing.
  const auto flat = parse(RawNifti()
                              .dims({2, 4, 3, 0, 0, 0, 0, 0})
                              .pixdim({1, 1, 1, 0})
                              .type(4, 16)
                              .voxels(ramp(12))
                              .str());
  EXPECT_EQ(flat.geometry.shape, (Extent3{1, 3, 4}));
}

TEST(Nifti, AffineIsSformThenQformThenSpacing) {
  const std::vector<double> rows{-2, 0, 0, 10, 0, 0, 3, 20, 0, 4, 0, 30};
  const double h = std::sqrt(0.5);
  for (const int version : {1, 2}) {
    for (const bool big : {false, true}) {
      const auto file = [&](int qform, int sform, double qfac) {
        return parse_header(RawNifti(version, big)
                                .type(4, 16)
                                .pixdim({qfac, 2, 4, 3, 1, 1, 1, 1})
                                .codes(qform, sform)
                                .srow(rows)
                                .quaternion({0, 0, h, 5, 6, 7})  // a quarter turn about z
                                .voxels(ramp(24))
                                .str())
            .geometry.affine;
      };
      const auto expect_near = [](const std::array<double, 12>& found,
                                  const std::vector<double>& expected) {
        for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
      };
      expect_near(file(1, 1, 1), rows);
      expect_near(file(1, 0, 1), {0, -4, 0, 5, 2, 0, 0, 6, 0, 0, 3, 7});
      expect_near(file(1, 0, -1), {0, -4, 0, 5, 2, 0, 0, 6, 0, 0, -3, 7});
      expect_near(file(0, 0, 1), {2, 0, 0, 0, 0, 4, 0, 0, 0, 0, 3, 0});
    }
  }
  // Micrometres.
  const auto tiny = parse_header(RawNifti().type(4, 16).pixdim({1, 500, 500, 2000}).units(3).str());
  EXPECT_EQ(tiny.geometry.spacing_mm, (Vec3{2, 0.5, 0.5}));
  EXPECT_EQ(tiny.geometry.affine[10], 2);
}

/// A tilted, flipped, anisotropic grid whose numbers are exact in float32 nowhere but in the
/// spacing.
Geometry tilted_geometry(const Extent3& shape) {
  const double c = std::cos(0.3), s = std::sin(0.3);
  Geometry g;
  g.shape = shape;
  g.spacing_mm = {2.5, 0.75, 0.5};
  g.affine = {-0.5 * c, 0.75 * s, 0, 12.25, -0.5 * s, -0.75 * c, 0, -7.5, 0, 0, 2.5, 100};
  return g;
}

TEST(Nifti, WritesWhatItReads) {
  const TempFolder folder;
  Image image{.geometry = tilted_geometry({3, 4, 5}), .channels = 2, .voxels = {}};
  for (int i = 0; i < 120; ++i) image.voxels.push_back(static_cast<float>(i) * 0.1f - 3);
  LabelMap label{
      .geometry = image.geometry, .channels = 1, .voxels = std::vector<std::int16_t>(60, 0)};
  label.voxels[7] = 3;
  LabelMap wide = label;
  wide.voxels[8] = 300;
  wide.voxels[9] = -1;
  for (const char* name : {"a.nii", "a.nii.gz"}) {
    write_nifti(folder / name, image);
    const Image back = read_nifti_image(folder / name);
    EXPECT_EQ(back.voxels, image.voxels);
    EXPECT_EQ(back.channels, 2);
    EXPECT_EQ(back.geometry.shape, image.geometry.shape);
    EXPECT_EQ(back.geometry.spacing_mm, image.geometry.spacing_mm);
    EXPECT_LT(grid_distance_mm(back.geometry, image.geometry), 1e-4);
    write_nifti(folder / name, label);
    EXPECT_EQ(read_nifti_header(folder / name).type, VoxelType::UInt8);
    EXPECT_EQ(read_nifti_label(folder / name).voxels, label.voxels);
    write_nifti(folder / name, wide);
    EXPECT_EQ(read_nifti_header(folder / name).type, VoxelType::Int16);
    EXPECT_EQ(read_nifti_label(folder / name).voxels, wide.voxels);
    write_nifti_int16(folder / name, image);
    EXPECT_EQ(read_nifti_image(folder / name).voxels[11], std::nearbyint(image.voxels[11]));
  }
  // The second write of one content is the same file, and no temporary names are left.
  write_nifti(folder / "b.nii.gz", label);
  write_nifti(folder / "c.nii.gz", label);
  EXPECT_EQ(read_file(folder / "b.nii.gz", 1 << 20), read_file(folder / "c.nii.gz", 1 << 20));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 4);
  EXPECT_THAT(error_of([&] { write_nifti(folder / "a.png", label); }), HasSubstr(".nii.gz"));
  label.voxels.pop_back();
  EXPECT_THAT(error_of([&] { write_nifti(folder / "d.nii", label); }), HasSubstr("found 59"));
}

TEST(Nifti, QformSaysTheSameAsSformWhereItCan) {
  const TempFolder folder;
  Image image{
      .geometry = tilted_geometry({2, 2, 2}), .channels = 1, .voxels = std::vector<float>(8, 1)};
  for (const double flip : {1.0, -1.0}) {  // with and without a mirrored axis
    for (const std::size_t i : {std::size_t{2}, std::size_t{6}, std::size_t{10}})
      image.geometry.affine[i] *= flip;
    write_nifti(folder / "a.nii", image);
    std::string bytes = read_file(folder / "a.nii", 1 << 20);
    EXPECT_EQ(bytes[252], 1);
    bytes[254] = 0;  // hide the sform
    EXPECT_LT(grid_distance_mm(parse_header(bytes).geometry, image.geometry), 1e-4);
  }
  image.geometry.affine[1] += 0.3;  // sheared: only the sform can say it
  write_nifti(folder / "a.nii", image);
  const std::string bytes = read_file(folder / "a.nii", 1 << 20);
  EXPECT_EQ(bytes[252], 0);
  EXPECT_LT(grid_distance_mm(parse_header(bytes).geometry, image.geometry), 1e-4);
}

TEST(Nifti, LongEdgesNeedVersionTwo) {
  const TempFolder folder;
  LabelMap label;
  label.geometry.shape = {1, 1, 40000};
  label.voxels.assign(40000, 1);
  write_nifti(folder / "long.nii.gz", label);
  EXPECT_EQ(read_nifti_header(folder / "long.nii.gz").version, 2);
  EXPECT_EQ(read_nifti_label(folder / "long.nii.gz"), label);
}

TEST(Nifti, GzipMembersPaddingAndTrailingBytes) {
  const std::string plain = RawNifti().type(4, 16).voxels(ramp(24)).str();
  const auto expected = parse(plain).voxels;
  EXPECT_EQ(parse(plain + "tail").voxels, expected);
  EXPECT_EQ(parse(gzip(plain + "tail")).voxels, expected);
  EXPECT_EQ(parse(gzip(plain) + std::string(512, '\0')).voxels, expected);
  for (const std::size_t cut :
       {std::size_t{1}, std::size_t{100}, std::size_t{351}, std::size_t{390}}) {
    EXPECT_EQ(parse(gzip(plain.substr(0, cut)) + gzip(plain.substr(cut))).voxels, expected) << cut;
  }
  EXPECT_THAT(error_of([&] { parse(gzip(plain.substr(0, 380))); }),
              HasSubstr("expected 400 bytes"));
  EXPECT_THAT(error_of([&] { parse(gzip(plain + std::string(3 << 20, 'x'))); }), HasSubstr("more"));
}

TEST(Nifti, ErrorsNameTheFileAndTheField) {
  const auto message = [](const RawNifti& raw) { return error_of([&] { parse(raw.str()); }); };
  const auto good = [] { return RawNifti().type(4, 16).voxels(ramp(24)); };
  EXPECT_THAT(message(good().type(32, 64)), AllOf(HasSubstr("f.nii"), HasSubstr("complex")));
  EXPECT_THAT(message(good().type(128, 24)), HasSubstr("RGB"));
  EXPECT_THAT(message(good().type(1536, 128)), HasSubstr("1536"));
  EXPECT_THAT(message(good().type(4, 8)), HasSubstr("bitpix: expected 16"));
  EXPECT_THAT(message(good().magic("ni1")), HasSubstr(".hdr/.img"));
  EXPECT_THAT(message(good().magic("abc")), HasSubstr("magic"));
  EXPECT_THAT(message(good().dims({9})), HasSubstr("dim[0]"));
  EXPECT_THAT(message(good().dims({3, 4, 0, 2})), HasSubstr("dim[2]"));
  EXPECT_THAT(message(good().dims({3, 4, -3, 2})), HasSubstr("found -3"));
  EXPECT_THAT(message(good().dims({5, 4, 3, 1, 2, 2})), HasSubstr("two"));
  EXPECT_THAT(message(good().dims({3, 4, 3, 3})),
              AllOf(HasSubstr("truncated"), HasSubstr("found 400")));
  EXPECT_THAT(message(good().pixdim({1, 1, 0, 1})), HasSubstr("pixdim[2]"));
  EXPECT_THAT(message(good().pixdim({1, std::nan(""), 1, 1})), HasSubstr("pixdim[1]"));
  EXPECT_THAT(message(good().put<float>(108, 0, 100)), HasSubstr("vox_offset"));
  EXPECT_THAT(message(RawNifti(2).type(4, 16).dims({3, INT64_MAX, 2, 2})), HasSubstr("dim[1]"));
  EXPECT_THAT(error_of([] { parse(""); }), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { parse(std::string(1000, 'x')); }), HasSubstr("not a NIfTI file"));
  EXPECT_THAT(error_of([] { parse("short"); }), HasSubstr("348"));
  EXPECT_THAT(error_of([] { read_nifti_image("/nonexistent/a.nii.gz"); }),
              HasSubstr("/nonexistent/a.nii.gz: no such file"));
  EXPECT_THAT(error_of([] { read_nifti_header("/nonexistent/a.nii.gz"); }),
              HasSubstr("no such file"));
  EXPECT_THROW(read_nifti_header("/tmp"), Error);
  EXPECT_THROW(read_nifti_image("/tmp"), Error);

  std::vector<float> values(24, 1);
  values[17] = 0.5f;
  EXPECT_THAT(error_of([&] { parse_label(RawNifti().type(16, 32).voxels(values).str()); }),
              AllOf(HasSubstr("(1, 1, 1)"), HasSubstr("found 0.5")));
  values[17] = std::nanf("");
  EXPECT_THAT(error_of([&] { parse_label(RawNifti().type(16, 32).voxels(values).str()); }),
              HasSubstr("nan"));
  values[17] = 40000;
  EXPECT_THAT(error_of([&] { parse_label(RawNifti().type(16, 32).voxels(values).str()); }),
              HasSubstr("40000"));
  EXPECT_THAT(error_of([&] {
                parse_label(RawNifti().dims({4, 4, 3, 1, 2}).type(16, 32).voxels(values).str());
              }),
              HasSubstr("one channel"));
}

TEST(Nifti, LabelsMayMissTheirIntegerByARounding) {
  const TempFolder folder;
  Image image;
  image.geometry.shape = {1, 1, 4};
  image.voxels = {0, 0.9999f, 1.9995f, 300.0005f};
  write_nifti(folder / "l.nii", image);
  EXPECT_EQ(read_nifti_label(folder / "l.nii").voxels, (std::vector<std::int16_t>{0, 1, 2, 300}));
  for (const float bad : {0.5f, 0.99f, std::nanf(""), 40000.0f}) {
    image.voxels[1] = bad;
    write_nifti(folder / "l.nii", image);
    EXPECT_THROW(read_nifti_label(folder / "l.nii"), NotALabel) << bad;
  }
}

TEST(Nifti, NamesInEitherCase) {
  EXPECT_EQ(nifti_stem("x/C1.NII.GZ"), "C1");
  EXPECT_EQ(nifti_stem("c.nii.nii.gz"), "c.nii");
  EXPECT_EQ(nifti_ending("C1.Nii.gz"), ".Nii.gz");
  EXPECT_EQ(nifti_ending("c.gz"), "");
  EXPECT_TRUE(is_nifti_name("C.NII"));
  EXPECT_FALSE(is_nifti_name("._c.nii"));
  const TempFolder folder;
  const Image image = {.geometry = tilted_geometry({2, 3, 4}),
                       .channels = 1,
                       .voxels = std::vector<float>(24, 7.0f)};
  write_nifti(folder / "C.NII.GZ", image);
  EXPECT_EQ(read_nifti_image(folder / "C.NII.GZ").voxels, image.voxels);
}

TEST(Nifti, DamagedAndLyingFilesNeverCrashOrTakeMemoryByTheirClaim) {
  Rng rng("nifti-damage");
  std::vector<std::string> seeds;
  for (const int version : {1, 2}) {
    const std::string plain =
        RawNifti(version, version == 2).dims({3, 20, 20, 20}).type(4, 16).voxels(ramp(8000)).str();
    seeds.push_back(plain);
    seeds.push_back(gzip(plain));
  }
  int accepted = 0;
  largest_request = 0;
  for (int round = 0; round < 6000; ++round) {
    std::string bytes = seeds[static_cast<std::size_t>(round) % seeds.size()];
    const bool packed = bytes[0] == '\x1f';
    for (std::int64_t changes = rng.integer(1, 5); changes > 0; --changes) {
      const auto size = static_cast<std::int64_t>(bytes.size());
      if (size == 0) break;
      const auto at = static_cast<std::size_t>(
          rng.integer(0, rng.chance(0.7) && !packed ? std::min<std::int64_t>(size, 352) : size));
      switch (rng.integer(0, 4)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.integer(0, 8)));
          break;
        case 1:
          bytes[at] = static_cast<char>(rng.bits());
          break;
        case 2:
          if (rng.chance(0.3)) bytes.resize(at);
          break;
        default:
          bytes.replace(at,
                        std::min<std::size_t>(8, bytes.size() - at),
                        8,
                        rng.chance(0.5) ? '\x7f' : '\xff');
      }
    }
    for (const bool label : {false, true}) {
      try {
        label ? static_cast<void>(parse_label(bytes)) : static_cast<void>(parse(bytes));
        ++accepted;
      } catch (const Error&) {
      }
    }
  }
  EXPECT_GT(accepted, 100);  // some changes hit voxels or unused fields
  // 16 KB of int16 voxels become 32 KB of floats; a trailer may ask for one megabyte more to count
  // itself out.
  EXPECT_LT(largest_request.load(), (1u << 20) + 128u * 1024);
}

TEST(Nifti, ClaimsBeyondWhatDeflateCanHoldAreRefused) {
  const std::string honest = gzip(RawNifti(2).type(4, 16).voxels(ramp(24)).str());
  const std::string claim =
      gzip(RawNifti(2).dims({3, 100000, 100000, 100}).type(4, 16).voxels(ramp(24)).str());
  EXPECT_NO_THROW(parse(honest));
  largest_request = 0;
  EXPECT_THAT(error_of([&] { parse(claim); }), HasSubstr("cannot hold"));
  // A trailer that agrees with the header does not help either.
  std::string agreed = gzip(RawNifti(2).dims({3, 100, 100, 4}).type(4, 16).voxels(ramp(24)).str());
  const std::uint32_t size = 544 + 80000;
  std::memcpy(agreed.data() + agreed.size() - 4, &size, 4);
  EXPECT_THROW(parse(agreed), Error);
  EXPECT_LT(largest_request.load(), 300u * 1024);
}

TEST(Nifti, ReadsRealFiles) {
  NAS_SHARED_OR_SKIP(task, "data/Task04_Hippocampus");
  // Sums and counts taken with Python's gzip and struct.
  const Image image = read_nifti_image(task / "imagesTr/hippocampus_003.nii.gz");
  EXPECT_EQ(image.geometry.shape, (Extent3{35, 52, 34}));
  double sum = 0;
  for (const float v : image.voxels) sum += v;
  EXPECT_NEAR(sum, 29866089.8687, 0.01);
  EXPECT_NEAR(image.voxels[20 + 34 * (30 + 52 * 10)], 452.8817138671875, 1e-6);
  const LabelMap label = read_nifti_label(task / "labelsTr/hippocampus_003.nii.gz");
  EXPECT_EQ(std::count(label.voxels.begin(), label.voxels.end(), 1), 1550);
  EXPECT_EQ(std::count(label.voxels.begin(), label.voxels.end(), 2), 1803);
  EXPECT_EQ(grid_distance_mm(image.geometry, label.geometry), 0);
}

TEST(Nifti, AgreesWithNibabel) {
  NAS_PYTHON_OR_SKIP(python);
  const TempFolder folder;
  // Each file from nibabel comes with what nibabel reads from it: x y z c, zooms, affine, all
  // values in file order.
  write_file_atomic(folder / "make.py", R"py(
import json, sys
import nibabel as nib
import numpy as np
out, rng = sys.argv[1], np.random.default_rng(1)
cases = []
def rotation(angles):
    m = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s, r = np.cos(angle), np.sin(angle), np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        r[i, i] = r[j, j] = c
        r[i, j], r[j, i] = -s, s
        m = m @ r
    return m
for n, (kind, order, dtype, shape, flip, form) in enumerate([
        (nib.Nifti1Image, '<', 'i2', (3, 4, 5), 1, 's'), (nib.Nifti1Image, '>', 'f4', (3, 4, 5, 2), -1, 'q'),
        (nib.Nifti2Image, '>', 'u2', (4, 3, 2), -1, 'q'), (nib.Nifti2Image, '<', 'f8', (2, 2, 2, 3), 1, 'q'),
        (nib.Nifti1Image, '<', 'u1', (6, 1, 2), 1, 'q')]):
    affine = np.eye(4)
    affine[:3, :3] = rotation(rng.uniform(-2, 2, 3)) @ np.diag([0.5, 0.75, 2.5 * flip])
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    data = (rng.random(shape) * 200).astype(dtype)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(order + dtype))
    image = kind(data, None, header)
    image.header['pixdim'][1:4] = [0.5, 0.75, 2.5]
    image.set_qform(affine if form == 'q' else None, 1 if form == 'q' else 0)
    image.set_sform(affine if form == 's' else None, 1 if form == 's' else 0)
    if dtype == 'i2': image.header.set_slope_inter(0.25, -10)
    name = f'{out}/{n}.nii' + ('.gz' if n % 2 else '')
    nib.save(image, name)
    back = nib.load(name)
    cases.append({'file': name, 'shape': list(shape), 'zooms': [float(z) for z in back.header.get_zooms()[:3]],
                  'affine': back.affine[:3].ravel().tolist(), 'values': back.get_fdata().ravel(order='F').tolist()})
json.dump(cases, open(f'{out}/cases.json', 'w'))
ours = nib.load(f'{out}/ours.nii.gz')
json.dump({'shape': list(ours.shape), 'dtype': str(ours.get_data_dtype()),
           'qform': ours.get_qform()[:3].ravel().tolist(), 'sform': ours.get_sform()[:3].ravel().tolist(),
           'values': ours.get_fdata().ravel(order='F').tolist()}, open(f'{out}/ours.json', 'w'))
)py");
  Image ours{.geometry = tilted_geometry({2, 3, 4}), .channels = 2, .voxels = {}};
  for (int i = 0; i < 48; ++i) ours.voxels.push_back(static_cast<float>(i) * 0.3f);
  write_nifti(folder / "ours.nii.gz", ours);
  const std::string command = "'" + python.string() + "' '" + (folder / "make.py").string() +
                              "' '" + folder.path().string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);

  const Json cases = read_json(folder / "cases.json");
  ASSERT_EQ(cases.size(), 5u);
  for (const Json& one : cases) {
    SCOPED_TRACE(one["file"].get<std::string>());
    const Image image = read_nifti_image(one["file"].get<std::string>());
    const auto shape = one["shape"].get<std::vector<std::int64_t>>();
    EXPECT_EQ(image.geometry.shape, (Extent3{shape[2], shape[1], shape[0]}));
    EXPECT_EQ(image.channels, shape.size() == 4 ? shape[3] : 1);
    for (std::size_t a = 0; a < 3; ++a) {
      EXPECT_NEAR(image.geometry.spacing_mm[2 - a], one["zooms"][a].get<double>(), 1e-6);
    }
    for (std::size_t i = 0; i < 12; ++i) {
      EXPECT_NEAR(image.geometry.affine[i], one["affine"][i].get<double>(), 1e-4) << i;
    }
    const auto values = one["values"].get<std::vector<double>>();
    ASSERT_EQ(values.size(), image.voxels.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      EXPECT_NEAR(image.voxels[i], values[i], 1e-4) << i;
  }
  const Json theirs = read_json(folder / "ours.json");
  EXPECT_EQ(theirs["shape"], (Json{4, 3, 2, 2}));
  EXPECT_EQ(theirs["dtype"], "float32");
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_NEAR(theirs["sform"][i].get<double>(), ours.geometry.affine[i], 1e-4);
    EXPECT_NEAR(theirs["qform"][i].get<double>(), ours.geometry.affine[i], 1e-4);
  }
  for (std::size_t i = 0; i < 48; ++i) EXPECT_EQ(theirs["values"][i].get<float>(), ours.voxels[i]);
}

// ---- data sets ---------------------------------------------------------------------------------

void write_text(const fs::path& file, const std::string& text) { write_file_atomic(file, text); }

LabelMap small_label(std::int16_t value = 1) {
  LabelMap label;
  label.geometry.shape = {4, 4, 4};
  label.voxels.assign(64, 0);
  for (std::size_t i = 20; i < 40; ++i) label.voxels[i] = value;
  return label;
}

Image small_image(float first, std::int64_t channels = 1) {
  Image image;
  image.geometry.shape = {4, 4, 4};
  image.channels = channels;
  for (std::int64_t i = 0; i < 64 * channels; ++i)
    image.voxels.push_back(first + static_cast<float>(i));
  return image;
}

std::string msd_json(const std::string& labels = R"({"0": "background", "1": "organ"})",
                     const std::string& more = "") {
  return R"({"name": "x", "modality": {"0": "MRI"}, "labels": )" + labels + more +
         R"(, "training": [{"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
                           {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
                           {"image": "./imagesTr/._a.nii.gz", "label": "./labelsTr/._a.nii.gz"}],
             "test": ["./imagesTs/t.nii.gz"]})";
}

DataSet open_json(const TempFolder& folder, const std::string& text) {
  write_text(folder / "dataset.json", text);
  return open_data_set(folder.path());
}

TEST(Folds, EqualScikitLearnsForNnunetsSeed) {
  NAS_SHARED_OR_SKIP(file, "oracles/splits.json");
  const Json oracle = read_json(file);
  ASSERT_GE(oracle.size(), 5u);
  for (auto it = oracle.begin(); it != oracle.end(); ++it) {
    const auto expected = it.value().get<std::vector<std::vector<std::int64_t>>>();
    EXPECT_EQ(nnunet_folds(std::stoll(it.key())), expected) << it.key() << " cases";
  }
}

TEST(Folds, SpreadAllCasesAndRefuseTooFew) {
  for (const std::int64_t n : {5, 6, 97, 1000}) {
    std::set<std::int64_t> seen;
    for (const auto& fold : nnunet_folds(n)) seen.insert(fold.begin(), fold.end());
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), n);
  }
  EXPECT_THAT(error_of([] { nnunet_folds(4); }), HasSubstr("found 5"));
}

TEST(DataSets, MsdFolder) {
  const TempFolder folder;
  const DataSet data = open_json(folder, msd_json());
  EXPECT_EQ(data.layout, "msd");
  EXPECT_THAT(data.channel_names, ElementsAre("MRI"));
  EXPECT_THAT(data.labels.names, ElementsAre("background", "organ"));
  ASSERT_EQ(data.training.size(), 2u);  // sorted, without the "._" leftover
  EXPECT_EQ(data.training[0].id, "a");
  EXPECT_EQ(data.training[0].images[0], folder / "imagesTr/a.nii.gz");
  EXPECT_EQ(data.training[0].label, folder / "labelsTr/a.nii.gz");
  ASSERT_EQ(data.test.size(), 1u);
  EXPECT_EQ(data.test[0].id, "t");
  EXPECT_EQ(data.splits.size(), 2u);
  EXPECT_EQ(data.find("b").id, "b");
  EXPECT_THAT(error_of([&] { data.find("hippo"); }), HasSubstr("no case \"hippo\""));
  EXPECT_EQ(
      nnunet_dataset_json(data).dump(),
      R"({"channel_names":{"0":"MRI"},"labels":{"background":0,"organ":1},"numTraining":2,"file_ending":".nii.gz"})");
}

TEST(DataSets, LabelsAsNameListOrMapBothWays) {
  const TempFolder folder;
  for (const char* labels : {R"({"0": "background", "1": "a", "2": "b"})",
                             R"({"background": 0, "b": 2, "a": 1})",
                             R"(["background", "a", "b"])"}) {
    EXPECT_THAT(open_json(folder, msd_json(labels)).labels.names,
                ElementsAre("background", "a", "b"))
        << labels;
  }
  const auto message = [&](const std::string& labels) {
    return error_of([&] { open_json(folder, msd_json(labels)); });
  };
  EXPECT_THAT(message(R"({"0": "background", "2": "b"})"),
              AllOf(HasSubstr("dataset.json"), HasSubstr("gap"), HasSubstr("2")));
  EXPECT_THAT(message(R"({"background": 0, "a": 1, "b": 1})"), HasSubstr("twice"));
  EXPECT_THAT(message(R"({"background": 0, "a": 1.5})"), HasSubstr("labels.a"));
  EXPECT_THAT(message(R"({"background": 0})"), HasSubstr("at least one more"));
  EXPECT_THAT(message(R"({"0": "same", "1": "same"})"), HasSubstr("different names"));
  EXPECT_THAT(message("7"), HasSubstr("labels"));
}

TEST(DataSets, BackgroundIsLabelZero) {
  const TempFolder folder;
  const auto message = [&](const std::string& labels) {
    return error_of([&] { open_json(folder, msd_json(labels)); });
  };
  // As nnU-Net: turned round, label 0 would be learned as background in silence.
  for (const char* labels : {R"({"background": 1, "organ": 0})",
                             R"({"1": "Background", "0": "organ"})",
                             R"(["organ", "background"])"}) {
    EXPECT_THAT(message(labels), AllOf(HasSubstr("number 0"), HasSubstr("found 1"))) << labels;
  }
  for (const char* labels : {R"({"organ": 1, "lesion": 2})", R"({"1": "organ", "2": "lesion"})"}) {
    EXPECT_THAT(message(labels),
                AllOf(HasSubstr("\"background\" as label 0"), HasSubstr("1 (organ)")))
        << labels;
  }
}

TEST(DataSets, CaseIdsNameFilesInsideTheirFolder) {
  const TempFolder folder;
  const std::string head =
      R"({"channel_names": ["A"], "labels": ["background", "x"], "file_ending": ".nii", "dataset": {)";
  const auto open = [&](const std::string& id) {
    return open_json(
        folder, head + Json(id).dump() + R"(: {"images": ["../p.nii"], "label": "/tmp/l.nii"}}})");
  };
  for (const char* id :
       {"../../labelsTr/x", "a/b", "/etc/x", "..", ".hidden", "", "a\nb", "a\x7f"}) {
    EXPECT_THAT(error_of([&] { open(id); }), AllOf(HasSubstr("dataset.json"), HasSubstr("case id")))
        << id;
  }
  // Images are only read: they may lie anywhere.
  for (const char* id : {"a", "a..b", "with space", "x,y", "\u00df", "case.nii"}) {
    const DataSet data = open(id);
    EXPECT_EQ(data.training[0].id, id);
    EXPECT_EQ(data.training[0].images[0], folder.path().parent_path() / "p.nii");
    EXPECT_EQ(data.training[0].label, "/tmp/l.nii");
  }
  EXPECT_THAT(error_of([&] {
                open_json(folder,
                          R"({"labels": ["background", "x"], "modality": "CT",
                              "training": [{"image": "a.nii", "label": "..nii"}]})");
              }),
              HasSubstr("begins with a dot"));
}

TEST(DataSets, OneFolderPerPatientGivesTheCasesTheirNames) {
  const TempFolder folder;
  const DataSet data = open_json(folder, R"({"labels": ["background", "x"], "modality": "CT",
      "training": [{"image": "p2/t1.nii", "label": "p2/seg.nii"}, {"image": "p1/t1.nii", "label": "p1/seg.nii"},
                   {"image": "own/i.nii", "label": "own/other.nii"}],
      "validation": [{"image": "site/a/t1.nii", "label": "site/a/seg.nii"}],
      "test": ["q1/t1.nii", "q2/t1.nii", ["q3_0000.nii", "q3_0001.nii"]]})");
  std::vector<std::string> ids;
  for (const CaseFiles& one : data.training) ids.push_back(one.id);
  EXPECT_THAT(ids, ElementsAre("other", "p1", "p2", "site_a"));
  EXPECT_THAT(data.splits[0].val, ElementsAre("site_a"));
  EXPECT_EQ(data.find("p1").images[0], folder / "p1/t1.nii");
  ids.clear();
  for (const CaseFiles& one : data.test) ids.push_back(one.id);
  EXPECT_THAT(ids, ElementsAre("q1", "q2", "q3"));
}

TEST(DataSets, NnunetFoldersInTheFormsThatNnunetReads) {
  const TempFolder folder;
  const std::string json =
      R"({"channel_names": ["A", "B"], "labels": ["background", "x"], "file_ending": ".nii")";
  // All channels in one 4D file; the same in the other case of letters.
  write_nifti(folder / "imagesTr/c_0000.nii", small_image(0, 2));
  write_nifti(folder / "labelsTr/c.nii", small_label());
  write_nifti(folder / "imagesTr/d_0000.nii", small_image(0));
  write_nifti(folder / "imagesTr/d_0001.NII", small_image(0));
  write_nifti(folder / "labelsTr/d.NII", small_label());
  DataSet data = open_json(folder, json + "}");
  ASSERT_EQ(data.training.size(), 2u);
  EXPECT_THAT(data.find("c").images, ElementsAre(folder / "imagesTr/c_0000.nii"));
  EXPECT_EQ(read_case_image(data, data.find("c")).channels, 2);
  EXPECT_EQ(data.find("d").images[1], folder / "imagesTr/d_0001.NII");
  EXPECT_EQ(data.find("d").label, folder / "labelsTr/d.NII");
  // One channel of two: both are wanted.
  write_nifti(folder / "imagesTr/c_0000.nii", small_image(0));
  EXPECT_EQ(open_data_set(folder.path()).find("c").images.size(), 2u);
  write_nifti(folder / "labelsTr/d.nii", small_label());
  EXPECT_THAT(error_of([&] { open_data_set(folder.path()); }), HasSubstr("the same case as"));
  // Variables in the paths of "dataset".
  ::setenv("VOXNAS_TEST_PLACE", "/some/place", 1);
  data = open_json(folder, json + R"(, "dataset": {"k": {"images": ["$VOXNAS_TEST_PLACE/a.nii",
                     "${VOXNAS_TEST_PLACE}x/b$.nii"], "label": "l.nii"}}})");
  EXPECT_THAT(data.find("k").images, ElementsAre("/some/place/a.nii", "/some/placex/b$.nii"));
  EXPECT_THAT(error_of([&] {
                open_json(folder,
                          json + R"(, "dataset": {"k": {"images": ["$VOXNAS_TEST_UNSET/a.nii"],
                             "label": "l.nii"}}})");
              }),
              AllOf(HasSubstr("VOXNAS_TEST_UNSET"), HasSubstr("unset")));
}

TEST(DataSets, CasesNamedLikeChannelsAreToldApart) {
  const TempFolder folder;
  const std::string json =
      R"({"channel_names": ["A"], "labels": ["background", "x"], "file_ending": ".nii"})";
  for (const char* id : {"p_0000", "p_0001"}) {
    write_text(folder / "imagesTr" / (std::string(id) + "_0000.nii"), "");
    write_text(folder / "labelsTr" / (std::string(id) + ".nii"), "");
  }
  EXPECT_EQ(open_json(folder, json).find("p_0001").images[0], folder / "imagesTr/p_0001_0000.nii");
  // Without a channel number they would be channels 0 and 1 of a case p.
  write_text(folder / "imagesTr/p_0002.nii", "");
  write_text(folder / "labelsTr/p_0002.nii", "");
  EXPECT_THAT(error_of([&] { open_data_set(folder.path()); }),
              AllOf(HasSubstr("imagesTr/p_0002.nii"), HasSubstr("expected p_0002_0000.nii")));
}

/// "labels" and, unless empty, "regions_class_order" of an nnU-Net folder in `folder`.
LabelScheme nnunet_scheme(const TempFolder& folder,
                          const std::string& labels,
                          const std::string& order = "") {
  write_text(folder / "imagesTr/c_0000.nii.gz", "");
  write_text(folder / "labelsTr/c.nii.gz", "");
  return open_json(folder,
                   R"({"channel_names": {"0": "MRI"}, "labels": )" + labels +
                       (order.empty() ? "" : R"(, "regions_class_order": )" + order) +
                       R"(, "numTraining": 1, "file_ending": ".nii.gz"})")
      .labels;
}

TEST(Labels, RegionsInTheOrderOfTheFile) {
  const TempFolder folder;
  // The order of the names decides, not the alphabet: "whole" comes before "core".
  const LabelScheme scheme = nnunet_scheme(
      folder,
      R"({"background": 0, "whole": [3, 1, 2], "core": [2, 3], "enhancing": 3, "ignore": 4})",
      "[1, 2, 3]");
  EXPECT_THAT(scheme.names, ElementsAre("background", "whole", "core", "enhancing"));
  EXPECT_EQ(scheme.regions, (std::vector<std::vector<std::int16_t>>{{1, 2, 3}, {2, 3}, {3}}));
  EXPECT_THAT(scheme.region_labels, ElementsAre(1, 2, 3));
  EXPECT_EQ(scheme.outputs(), 3);
  EXPECT_EQ(scheme.labels(), 4);
  EXPECT_EQ(scheme.ignore_label(), 4);
  EXPECT_EQ(scheme.values(), 5);
  EXPECT_TRUE(scheme.holds(0, 2) && scheme.holds(1, 2) && !scheme.holds(2, 2));
  EXPECT_EQ(to_text(scheme), "3 regions of 3 labels, label 4 ignored");
  // Both forms that are written come back.
  Json json;
  add_label_scheme(json, scheme);
  EXPECT_EQ(label_scheme_from_json(JsonReader(json, "x")), scheme);
  const OrderedJson written = nnunet_labels(scheme);
  EXPECT_EQ(
      nnunet_scheme(folder, written.at("labels").dump(), written.at("regions_class_order").dump()),
      scheme);
}

TEST(LabelSchemes, SayWhatDiffersBetweenTwo) {
  const LabelScheme classes{.names = {"background", "liver", "tumour"}};
  const LabelScheme regions{
      .names = {"background", "whole", "core"}, .regions = {{1, 2}, {2}}, .region_labels = {1, 2}};
  for (const LabelScheme& same : {classes, regions}) EXPECT_EQ(difference(same, same), "");
  const auto changed = [](LabelScheme scheme, const auto& change) {
    LabelScheme now = scheme;
    change(now);
    return difference(scheme, now);
  };
  EXPECT_THAT(changed(classes, [](LabelScheme& s) { s.names[2] = "cyst"; }), HasSubstr("names"));
  EXPECT_THAT(changed(classes, [](LabelScheme& s) { s.has_ignore = true; }), HasSubstr("ignore"));
  EXPECT_THAT(changed(regions, [](LabelScheme& s) { s.regions[1] = {1}; }),
              AllOf(HasSubstr("core"), HasSubstr("[2]"), HasSubstr("[1]")));
  EXPECT_THAT(changed(regions,
                      [](LabelScheme& s) {
                        s.region_labels = {2, 1};
                      }),
              HasSubstr("regions_class_order"));
  EXPECT_THAT(changed(regions,
                      [](LabelScheme& s) {
                        s.regions.clear();
                        s.region_labels.clear();
                      }),
              HasSubstr("regions"));
}

TEST(Labels, AnIgnoredLabelLeavesTheClassesAsTheyAre) {
  const TempFolder folder;
  const LabelScheme scheme =
      nnunet_scheme(folder, R"({"ignore": 3, "b": [2], "a": 1, "background": 0})");
  EXPECT_THAT(scheme.names, ElementsAre("background", "a", "b"));
  EXPECT_FALSE(scheme.has_regions());
  EXPECT_EQ(scheme.ignore_label(), 3);
  EXPECT_EQ(scheme.outputs(), 3);
}

TEST(Labels, WhatNnunetRefusesIsRefusedByName) {
  const TempFolder folder;
  const auto message = [&](const std::string& labels, const std::string& order = "") {
    return error_of([&] { nnunet_scheme(folder, labels, order); });
  };
  const std::string regions = R"({"background": 0, "all": [1, 2], "two": 2})";
  EXPECT_EQ(message(regions, "[1, 2]"), "");
  EXPECT_THAT(message(regions),
              AllOf(HasSubstr("dataset.json"), HasSubstr("\"regions_class_order\"")));
  EXPECT_THAT(message(regions, "[1]"), HasSubstr("expected 2 labels"));
  EXPECT_THAT(message(regions, "[1, 7]"), HasSubstr("found 7"));
  EXPECT_THAT(message(R"({"all": [1, 2], "two": 2})", "[1, 2]"), HasSubstr("no background"));
  EXPECT_THAT(message(R"({"background": 1, "all": [0, 2]})", "[1]"), HasSubstr("background"));
  EXPECT_THAT(message(R"({"background": 0, "all": [1, 3]})", "[1]"), HasSubstr("gap"));
  EXPECT_THAT(message(R"({"background": 0, "all": []})", "[1]"), HasSubstr("found none"));
  EXPECT_THAT(message(R"({"background": 0, "a": 1, "ignore": 3})"),
              AllOf(HasSubstr("ignore"), HasSubstr("expected 2, found 3")));
  EXPECT_THAT(message(R"({"background": 0, "a": 1, "ignore": [2]})"), HasSubstr("found a list"));
  EXPECT_THAT(message(R"({"background": 0, "a": 1, "b": [1], "ignore": 2})"), HasSubstr("twice"));
}

TEST(Labels, IgnoredVoxelsMayBeInALabelFile) {
  const TempFolder folder;
  DataSet data;
  data.channel_names = {"MRI"};
  data.labels = {.names = {"background", "a"}, .has_ignore = true};
  LabelMap label;
  label.geometry.shape = {1, 1, 4};
  label.voxels = {0, 1, 2, 0};
  write_nifti(folder / "l.nii.gz", label);
  Image image;
  image.geometry = label.geometry;
  image.voxels = {1, 2, 3, 4};
  write_nifti(folder / "i.nii.gz", image);
  const CaseFiles files{.id = "l", .images = {folder / "i.nii.gz"}, .label = folder / "l.nii.gz"};
  EXPECT_EQ(read_case_label(data, files).voxels, label.voxels);
  data.labels.has_ignore = false;
  EXPECT_THAT(error_of([&] { read_case_label(data, files); }), HasSubstr("labels 0 to 1"));
}

TEST(DataSets, NnunetFolder) {
  const TempFolder folder;
  const std::string json =
      R"({"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "x": 1}, "numTraining": 2, "file_ending": ".nii.gz"})";
  EXPECT_THAT(error_of([&] { open_json(folder, json); }), HasSubstr("at least one training case"));
  for (const char* name : {"imagesTr/c2_0000.nii.gz",
                           "imagesTr/c2_0001.nii.gz",
                           "imagesTr/c1_0000.nii.gz",
                           "imagesTr/c1_0001.nii.gz",
                           "imagesTr/._c1_0001.nii.gz",
                           "imagesTr/notes.txt",
                           "labelsTr/c1.nii.gz",
                           "labelsTr/c2.nii.gz",
                           "imagesTs/t_0000.nii.gz"}) {
    write_text(folder / name, "");
  }
  const DataSet data = open_json(folder, json);
  EXPECT_EQ(data.layout, "nnunet");
  EXPECT_THAT(data.channel_names, ElementsAre("FLAIR", "T1"));
  ASSERT_EQ(data.training.size(), 2u);
  EXPECT_THAT(data.training[0].images,
              ElementsAre(folder / "imagesTr/c1_0000.nii.gz", folder / "imagesTr/c1_0001.nii.gz"));
  EXPECT_EQ(data.training[1].label, folder / "labelsTr/c2.nii.gz");
  ASSERT_EQ(data.test.size(), 1u);
  EXPECT_EQ(data.test[0].id, "t");
  EXPECT_TRUE(data.test[0].label.empty());

  EXPECT_THAT(error_of([&] {
                open_json(
                    folder,
                    R"({"channel_names": ["A"], "labels": ["b", "x"], "file_ending": ".nrrd"})");
              }),
              HasSubstr(".nrrd"));
  write_text(folder / "imagesTr/oops.nii.gz", "");
  EXPECT_THAT(error_of([&] { open_json(folder, json); }),
              AllOf(HasSubstr("oops.nii.gz"), HasSubstr("CASE_0000")));
  // Files may also be listed one by one.
  const DataSet listed = open_json(
      folder,
      json.substr(0, json.size() - 1) +
          R"(, "dataset": {"k": {"images": ["p/q0.nii.gz", "p/q1.nii.gz"], "label": "p/l.nii.gz"}}})");
  EXPECT_EQ(listed.find("k").images[1], folder / "p/q1.nii.gz");
}

TEST(DataSets, SplitsComeFromAFileOrFoldsOrValidationOrTheRule) {
  const TempFolder folder;
  open_json(folder, msd_json());
  write_text(folder / "splits_final.json", R"([{"train": ["a"], "val": ["b"]}])");
  DataSet data = open_data_set(folder.path());
  ASSERT_EQ(data.splits.size(), 1u);
  EXPECT_EQ(data.splits_source, "splits_final.json");
  EXPECT_THAT(data.splits[0].val, ElementsAre("b"));
  const auto message = [&](const std::string& text) {
    write_text(folder / "splits_final.json", text);
    return error_of([&] { open_data_set(folder.path()); });
  };
  EXPECT_THAT(message(R"([{"train": ["a"], "val": ["bb"]}])"),
              AllOf(HasSubstr("splits_final.json"), HasSubstr("\"bb\"")));
  EXPECT_THAT(message(R"([{"train": ["a", "b"], "val": ["b"]}])"), HasSubstr("twice"));
  EXPECT_THAT(message(R"([{"train": ["a"], "val": []}])"), HasSubstr("val"));
  EXPECT_THAT(message("{}"), HasSubstr("expected a list"));
  fs::remove(folder / "splits_final.json");

  data = open_json(folder, R"({"labels": ["background", "x"], "modality": "CT", "training": [
      {"image": "a.nii", "label": "la.nii", "fold": 0}, {"image": ["b0.nii", "b1.nii"], "label": "lb.nii", "fold": 1}]})");
  EXPECT_EQ(data.splits_source, "dataset.json \"fold\"");
  EXPECT_THAT(data.splits[1].val, ElementsAre("lb"));
  EXPECT_THAT(data.splits[1].train, ElementsAre("la"));
  EXPECT_EQ(data.find("lb").images.size(), 2u);

  data = open_json(folder, R"({"labels": ["background", "x"], "modality": "CT",
      "training": [{"image": "a.nii", "label": "la.nii"}], "validation": [{"image": "b.nii", "label": "lb.nii"}]})");
  EXPECT_THAT(data.splits[0].val, ElementsAre("lb"));
}

TEST(DataSets, ReadTheSharedOnes) {
  NAS_SHARED_OR_SKIP(folder, "data");
  const DataSet hippocampus = open_data_set(folder / "Task04_Hippocampus");
  EXPECT_EQ(hippocampus.name, "Task04_Hippocampus");
  EXPECT_EQ(hippocampus.training.size(), 208u);
  EXPECT_EQ(hippocampus.splits_source, "splits.json");
  ASSERT_EQ(hippocampus.splits.size(), 4u);
  EXPECT_EQ(hippocampus.splits[0].val.size(), 52u);
  const DataSet brain = open_data_set(folder / "Dataset501_BraTS2015Sample/");
  EXPECT_EQ(brain.name, "Dataset501_BraTS2015Sample");
  EXPECT_EQ(brain.training.size(), 4u);
  EXPECT_EQ(brain.splits.size(), 4u);  // fewer cases than folds: one out at a time
}

TEST(DataSets, CasesAreReadChannelByChannelAndChecked) {
  const TempFolder folder;
  const std::string json =
      R"({"channel_names": ["A", "B"], "labels": ["background", "x"], "file_ending": ".nii"})";
  Image second = small_image(100);
  write_nifti(folder / "imagesTr/c_0000.nii", small_image(0));
  write_nifti(folder / "imagesTr/c_0001.nii", second);
  write_nifti(folder / "labelsTr/c.nii", small_label());
  const DataSet data = open_json(folder, json);
  const CaseFiles& files = data.find("c");
  const Image image = read_case_image(data, files);
  EXPECT_EQ(image.channels, 2);
  EXPECT_EQ(image.channel(1)[3], 103.0f);
  EXPECT_EQ(read_case_label(data, files), small_label());
  write_nifti(folder / "labelsTr/c.nii", small_label(2));
  EXPECT_THAT(error_of([&] { read_case_label(data, files); }),
              AllOf(HasSubstr("c.nii"), HasSubstr("found 2")));
  second.geometry.spacing_mm[0] = 2;
  write_nifti(folder / "imagesTr/c_0001.nii", second);
  EXPECT_THAT(error_of([&] { read_case_image(data, files); }),
              AllOf(HasSubstr("c_0001.nii"), HasSubstr("spacing")));
  second.geometry.shape = {2, 8, 4};
  write_nifti(folder / "imagesTr/c_0001.nii", second);
  EXPECT_THAT(error_of([&] { read_case_image(data, files); }),
              AllOf(HasSubstr("4x4x4"), HasSubstr("2x8x4")));
}

TEST(DataSets, WrongFoldersSayWhatIsExpected) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { open_data_set(folder.path()); }), HasSubstr("dataset.json"));
  EXPECT_THAT(error_of([&] { open_data_set(folder / "none"); }), HasSubstr("found nothing"));
  EXPECT_THAT(error_of([&] { open_json(folder, "{"); }), HasSubstr("dataset.json"));
  EXPECT_THAT(error_of([&] { open_json(folder, "[]"); }), HasSubstr("object"));
  EXPECT_THAT(error_of([&] { open_json(folder, "{}"); }),
              AllOf(HasSubstr("training"), HasSubstr("channel_names")));
  const std::string head = R"({"labels": ["background", "x"], "modality": "CT", "training": )";
  EXPECT_THAT(error_of([&] { open_json(folder, head + "[7]}"); }), HasSubstr("training[0]"));
  EXPECT_THAT(error_of([&] { open_json(folder, head + R"([{"image": "a.nii"}]})"); }),
              HasSubstr("label"));
  EXPECT_THAT(
      error_of([&] {
        open_json(
            folder,
            head +
                R"([{"image": "a.nii", "label": "l.nii"}, {"image": "b.nii", "label": "l.nii"}]})");
      }),
      HasSubstr("twice"));
}

// ---- doctor ------------------------------------------------------------------------------------

const PhantomOptions kTiny{.cases = 5, .test_cases = 1, .size = {12, 12, 12}, .size_jitter = 0.05};

/// One healthy phantom per layout, written once: every written file is synced to the disk.
fs::path healthy_phantom(const PhantomOptions& options) {
  static const TempFolder originals;
  const fs::path original = originals / options.layout;
  if (!fs::exists(original)) {
    write_phantom(original, options);
    for (const Finding& f : examine(original)) ADD_FAILURE() << "healthy: " << to_text(f);
  }
  return original;
}

/// A healthy phantom, then `damage` done to it: every finding must be of kind `check`, and the
/// first one is returned.
template <class Damage>
Finding finding_after(const std::string& check,
                      const Damage& damage,
                      const PhantomOptions& options = kTiny) {
  const TempFolder folder;
  const fs::path data = folder / "Data";
  fs::copy(healthy_phantom(options), data, fs::copy_options::recursive);
  damage(data);
  const auto all = examine(data);
  for (const Finding& f : all) {
    EXPECT_EQ(f.check, check) << to_text(f);
    EXPECT_FALSE(f.expected.empty() || f.found.empty() || f.advice.empty() || f.file.empty());
  }
  EXPECT_FALSE(all.empty()) << check;
  return all.empty() ? Finding{} : all[0];
}

template <class Change>
void change_image(const fs::path& file, const Change& change) {
  Image image = read_nifti_image(file);
  change(image);
  write_nifti(file, image);
}
template <class Change>
void change_label(const fs::path& file, const Change& change) {
  LabelMap label = read_nifti_label(file);
  change(label);
  write_nifti(file, label);
}

constexpr const char* kImage = "imagesTr/phantom_002.nii.gz";
constexpr const char* kLabel = "labelsTr/phantom_002.nii.gz";

TEST(Doctor, MissingAndDamagedFiles) {
  Finding f = finding_after("missing-file", [](const fs::path& d) { fs::remove(d / kLabel); });
  EXPECT_EQ(f.severity, Severity::Fatal);
  EXPECT_THAT(to_text(f),
              AllOf(HasSubstr("fatal missing-file"),
                    HasSubstr(kLabel),
                    HasSubstr("expected a NIfTI file, found nothing; ")));
  f = finding_after("damaged-file", [](const fs::path& d) {
    fs::resize_file(d / kImage, fs::file_size(d / kImage) / 2);
  });
  EXPECT_EQ(f.severity, Severity::Fatal);
  EXPECT_EQ(f.file.filename(), "phantom_002.nii.gz");
  // A broken test case does not stop a training.
  f = finding_after("missing-file",
                    [](const fs::path& d) { fs::remove(d / "imagesTs/phantom_006.nii.gz"); });
  EXPECT_EQ(f.severity, Severity::Warning);
  f = finding_after("unlisted-file",
                    [](const fs::path& d) { fs::copy(d / kImage, d / "imagesTr/extra.nii.gz"); });
  EXPECT_EQ(f.severity, Severity::Note);
}

TEST(Doctor, GridsThatDisagree) {
  Finding f = finding_after("shape-mismatch", [](const fs::path& d) {
    change_label(d / kLabel, [](LabelMap& m) {
      m.geometry.shape = {1, 1, m.voxels_per_channel()};
    });
  });
  EXPECT_EQ(f.severity, Severity::Fatal);
  f = finding_after("spacing-mismatch", [](const fs::path& d) {
    change_label(d / kLabel, [](LabelMap& m) {
      m.geometry.spacing_mm[0] *= 1.5, m.geometry.affine[10] *= 1.5;
    });
  });
  EXPECT_EQ(f.severity, Severity::Fatal);
  f = finding_after("affine-mismatch", [](const fs::path& d) {
    change_label(d / kLabel, [](LabelMap& m) { m.geometry.affine[3] += 2; });
  });
  EXPECT_EQ(f.severity, Severity::Warning);
  EXPECT_THAT(f.found, HasSubstr("2 mm"));
  f = finding_after("spacing-affine", [](const fs::path& d) {
    change_image(d / kImage, [](Image& m) { m.geometry.spacing_mm[1] *= 1.2; });
    change_label(d / kLabel, [](LabelMap& m) { m.geometry.spacing_mm[1] *= 1.2; });
  });
  EXPECT_EQ(f.severity, Severity::Warning);
  f = finding_after("orientation", [](const fs::path& d) {
    change_image(d / kImage, [](Image& m) { m.geometry.affine[0] *= -1; });
    change_label(d / kLabel, [](LabelMap& m) { m.geometry.affine[0] *= -1; });
  });
  EXPECT_THAT(f.found, AllOf(HasSubstr("1 LAS"), HasSubstr("4 RAS")));
  f = finding_after("spacing-outlier", [](const fs::path& d) {
    change_image(d / kImage,
                 [](Image& m) { m.geometry.spacing_mm[0] *= 4, m.geometry.affine[10] *= 4; });
    change_label(d / kLabel,
                 [](LabelMap& m) { m.geometry.spacing_mm[0] *= 4, m.geometry.affine[10] *= 4; });
  });
  EXPECT_EQ(f.severity, Severity::Warning);
  EXPECT_THAT(f.found, HasSubstr("4 x 1 x 1"));
}

TEST(Doctor, ChannelsOfOneCase) {
  PhantomOptions two = kTiny;
  two.channels = 2;
  two.layout = "nnunet";
  const fs::path second = "imagesTr/phantom_002_0001.nii.gz";
  Finding f = finding_after(
      "shape-mismatch",
      [&](const fs::path& d) {
        change_image(d / second, [](Image& m) {
          m.geometry.shape = {1, 1, m.voxels_per_channel()};
        });
      },
      two);
  EXPECT_EQ(f.file.filename(), second.filename());
  f = finding_after(
      "constant-image",
      [&](const fs::path& d) {
        change_image(d / second,
                     [](Image& m) { std::fill(m.voxels.begin(), m.voxels.end(), 0.0f); });
      },
      two);
  EXPECT_EQ(f.severity, Severity::Warning);  // one of two channels
  f = finding_after(
      "channel-count",
      [&](const fs::path& d) {
        change_image(d / second, [](Image& m) {
          m.voxels.insert(m.voxels.end(), m.voxels.begin(), m.voxels.end());
          m.channels = 2;
        });
      },
      two);
  EXPECT_THAT(f.found, HasSubstr("3"));
}

TEST(Doctor, ValuesAndLabels) {
  Finding f = finding_after("non-finite", [](const fs::path& d) {
    change_image(d / kImage, [](Image& m) { m.voxels[5] = std::nanf(""), m.voxels[6] = INFINITY; });
  });
  EXPECT_EQ(f.severity, Severity::Fatal);
  EXPECT_THAT(f.found, HasSubstr("2 NaN or infinite voxels"));
  f = finding_after("constant-image", [](const fs::path& d) {
    change_image(d / kImage, [](Image& m) { std::fill(m.voxels.begin(), m.voxels.end(), 3.0f); });
  });
  EXPECT_EQ(f.severity, Severity::Fatal);
  f = finding_after("unknown-label", [](const fs::path& d) {
    change_label(d / kLabel, [](LabelMap& m) { m.voxels[0] = 7, m.voxels[1] = -1; });
  });
  EXPECT_EQ(f.severity, Severity::Fatal);
  EXPECT_THAT(f.found, AllOf(HasSubstr("7 (1 voxels)"), HasSubstr("-1")));
  f = finding_after("empty-label", [](const fs::path& d) {
    change_label(d / kLabel,
                 [](LabelMap& m) { std::fill(m.voxels.begin(), m.voxels.end(), std::int16_t{0}); });
  });
  EXPECT_EQ(f.severity, Severity::Note);
  f = finding_after("absent-class", [](const fs::path& d) {
    for (int i = 1; i <= 5; ++i) {
      change_label(d / ("labelsTr/phantom_00" + std::to_string(i) + ".nii.gz"), [](LabelMap& m) {
        std::replace(m.voxels.begin(), m.voxels.end(), std::int16_t{2}, std::int16_t{1});
      });
    }
  });
  EXPECT_EQ(f.severity, Severity::Warning);
  EXPECT_THAT(f.expected, HasSubstr("organ_2"));
  f = finding_after("fractional-label", [](const fs::path& d) {
    change_image(d / kLabel, [](Image& m) { m.voxels[9] = 0.5f; });
  });
  EXPECT_THAT(f.found, HasSubstr("found 0.5"));
}

TEST(Doctor, TheSetAsAWhole) {
  Finding f = finding_after("duplicate-case", [](const fs::path& d) {
    for (const char* part : {"imagesTr", "labelsTr"}) {
      fs::copy(d / part / "phantom_003.nii.gz",
               d / part / "phantom_004.nii.gz",
               fs::copy_options::overwrite_existing);
    }
  });
  EXPECT_EQ(f.severity, Severity::Warning);
  EXPECT_THAT(f.found, HasSubstr("phantom_003"));
  const auto keep = [](std::size_t n) {
    return [n](const fs::path& d) {
      Json json = read_json(d / "dataset.json");
      json["training"].erase(json["training"].begin() + static_cast<std::ptrdiff_t>(n),
                             json["training"].end());
      json["numTraining"] = n;
      write_json(d / "dataset.json", json);
      for (std::size_t i = n + 1; i <= 5; ++i)
        fs::remove(d / ("imagesTr/phantom_00" + std::to_string(i) + ".nii.gz"));
    };
  };
  EXPECT_EQ(finding_after("too-few-cases", keep(4)).severity, Severity::Warning);
  EXPECT_EQ(finding_after("too-few-cases", keep(1)).severity, Severity::Fatal);
  f = finding_after("case-count", [](const fs::path& d) {
    Json json = read_json(d / "dataset.json");
    json["numTraining"] = 50;
    write_json(d / "dataset.json", json);
  });
  EXPECT_THAT(f.expected, HasSubstr("50"));
  f = finding_after("dataset",
                    [](const fs::path& d) { write_text(d / "dataset.json", "{\"training\": 1"); });
  EXPECT_EQ(f.severity, Severity::Fatal);
}

TEST(Doctor, SortsAndReportsProgressAndJson) {
  const TempFolder folder;
  write_phantom(folder / "d", kTiny);
  fs::remove(folder / "d/labelsTr/phantom_005.nii.gz");
  fs::remove(folder / "d/imagesTs/phantom_006.nii.gz");
  fs::remove(folder / "d/labelsTr/phantom_001.nii.gz");
  std::vector<std::int64_t> seen;
  const auto findings =
      examine(folder / "d", {.progress = [&](std::int64_t done, std::int64_t total) {
                EXPECT_EQ(total, 6);
                seen.push_back(done);
              }});
  EXPECT_THAT(seen, ElementsAre(1, 2, 3, 4, 5, 6));
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].file.filename(), "phantom_001.nii.gz");
  EXPECT_EQ(findings[1].file.filename(), "phantom_005.nii.gz");
  EXPECT_EQ(findings[2].severity, Severity::Warning);
  EXPECT_TRUE(any_fatal(findings));
  const Json json = to_json(findings);
  EXPECT_EQ(json[0]["severity"], "fatal");
  EXPECT_EQ(json[0]["check"], "missing-file");
  const auto nowhere = examine(folder / "nowhere");
  ASSERT_EQ(nowhere.size(), 1u);
  EXPECT_EQ(nowhere[0].check, "dataset");
}

TEST(Doctor, TheSharedDataAreHealthy) {
  NAS_SHARED_OR_SKIP(task, "data/Task04_Hippocampus");
  for (const Finding& f : examine(task)) ADD_FAILURE() << to_text(f);
}

// ---- phantom -----------------------------------------------------------------------------------

TEST(Phantom, IsAFunctionOfItsSeed) {
  const TempFolder folder;
  PhantomOptions other = kTiny;
  other.seed = 2;
  other.name = "Data";
  write_phantom(folder / "a/Data", kTiny);
  write_phantom(folder / "b/Data", kTiny);
  write_phantom(folder / "c/Data", other);
  for (const char* name : {"dataset.json", kImage, kLabel, "imagesTs/phantom_006.nii.gz"}) {
    EXPECT_EQ(read_file(folder / "a/Data" / name, 1 << 20),
              read_file(folder / "b/Data" / name, 1 << 20))
        << name;
    EXPECT_NE(read_file(folder / "a/Data" / name, 1 << 20),
              read_file(folder / "c/Data" / name, 1 << 20))
        << name;
  }
  EXPECT_THAT(error_of([&] { write_phantom(folder / "a/Data", kTiny); }),
              HasSubstr("new or empty folder"));
  other.classes = 0;
  EXPECT_THAT(error_of([&] { write_phantom(folder / "d", other); }),
              HasSubstr("classes: expected 1 to 8, found 0"));
  other = kTiny;
  other.modality = "";
  EXPECT_THAT(error_of([&] { write_phantom(folder / "d", other); }),
              HasSubstr("modality: expected a name such as MRI or CT"));
}

TEST(Phantom, BothLayoutsHoldTheSameCases) {
  const TempFolder folder;
  PhantomOptions o = kTiny;
  o.channels = 2;
  o.classes = 3;
  o.lesion_class = true;
  o.spacing_mm = {3, 1, 0.5};
  o.modality = "CT";
  write_phantom(folder / "msd", o);
  o.layout = "nnunet";
  write_phantom(folder / "nnunet", o);
  const DataSet a = open_data_set(folder / "msd"), b = open_data_set(folder / "nnunet");
  EXPECT_EQ(b.layout, "nnunet");
  EXPECT_EQ(a.labels.names, b.labels.names);
  EXPECT_EQ(a.channel_names, (std::vector<std::string>{"CT", "CT"}));
  EXPECT_EQ(a.labels.names.back(), "lesion");
  ASSERT_EQ(a.training.size(), b.training.size());
  for (const CaseFiles& files : a.training) {
    const Image image = read_case_image(a, files);
    EXPECT_EQ(image, read_case_image(b, b.find(files.id)));
    EXPECT_EQ(image.geometry.spacing_mm, o.spacing_mm);
    EXPECT_EQ(read_case_label(a, files), read_case_label(b, b.find(files.id)));
  }
}

TEST(Phantom, OrgansDifferInBrightnessUnlessTheyAreAlike) {
  for (const bool alike : {false, true}) {
    PhantomOptions o;
    o.alike = alike;
    o.classes = 4;
    std::map<std::array<std::size_t, 2>, double>
        apart;  // deviations between two organs, mean of the cases
    for (std::int64_t index = 0; index < 4; ++index) {
      const PhantomCase one = make_phantom_case(o, index);
      std::array<double, 5> sum{}, squares{}, count{};
      for (std::size_t i = 0; i < one.label.voxels.size(); ++i) {
        const auto k = static_cast<std::size_t>(one.label.voxels[i]);
        const double v = one.image.voxels[i];
        sum[k] += v, squares[k] += v * v, ++count[k];
      }
      for (std::size_t a = 1; a < 5; ++a) {
        for (std::size_t b = 1; b < a; ++b) {
          const double mean_a = sum[a] / count[a], mean_b = sum[b] / count[b];
          const double deviation = std::sqrt(squares[a] / count[a] - mean_a * mean_a +
                                             squares[b] / count[b] - mean_b * mean_b);
          apart[{a, b}] += (mean_a - mean_b) / deviation / 4;
        }
      }
    }
    for (const auto& [pair, deviations] : apart) {
      if (alike) {
        EXPECT_LT(std::abs(deviations), 0.7) << pair[0] << ' ' << pair[1];
      } else {
        EXPECT_GT(std::abs(deviations), 0.9) << pair[0] << ' ' << pair[1];
      }
    }
  }
}

TEST(Phantom, OrgansTouchLesionsComeAndGoAndNoThresholdFindsThem) {
  PhantomOptions o;
  o.alike = true;
  o.classes = 3;
  o.lesion_class = true;
  int with_lesion = 0;
  double best_threshold_dice = 0;
  for (std::int64_t index = 0; index < 8; ++index) {
    const PhantomCase one = make_phantom_case(o, index);
    const auto& label = one.label.voxels;
    const Extent3& shape = one.label.geometry.shape;
    const auto n = static_cast<double>(label.size());
    if (std::count(label.begin(), label.end(), 3) > 0) ++with_lesion;
    std::int64_t contacts = 0;
    for (std::size_t i = 0; i + static_cast<std::size_t>(shape[2]) < label.size(); ++i) {
      contacts += label[i] * label[i + 1] == 2 ||
                  label[i] * label[i + static_cast<std::size_t>(shape[2])] == 2;
    }
    EXPECT_GT(contacts, 20);
    for (const std::int16_t k : {1, 2}) {
      const double share = static_cast<double>(std::count(label.begin(), label.end(), k)) / n;
      EXPECT_GT(share, 0.01) << index;
      EXPECT_LT(share, 0.15) << index;
    }
    const auto organ =
        static_cast<double>(std::count_if(label.begin(), label.end(), [](int v) { return v > 0; }));
    for (float threshold = 0; threshold < 250; threshold += 5) {
      double above = 0, both = 0;
      for (std::size_t i = 0; i < label.size(); ++i) {
        if (one.image.voxels[i] <= threshold) continue;
        ++above;
        if (label[i] > 0) ++both;
      }
      best_threshold_dice = std::max(best_threshold_dice, 2 * both / (above + organ));
    }
  }
  EXPECT_GE(with_lesion, 1);
  EXPECT_LE(with_lesion, 7);
  EXPECT_LT(best_threshold_dice,
            0.85);  // with the best threshold of each case, organs taken as one
}

// ---- pictures ----------------------------------------------------------------------------------

Picture decode(const std::string& png) {
  spng_ctx* context = spng_ctx_new(0);
  spng_ihdr header{};
  Picture out;
  EXPECT_EQ(spng_set_png_buffer(context, png.data(), png.size()), 0);
  EXPECT_EQ(spng_get_ihdr(context, &header), 0);
  out.width = header.width;
  out.height = header.height;
  out.channels = header.color_type == SPNG_COLOR_TYPE_GRAYSCALE ? 1 : 3;
  const int format = out.channels == 1 ? SPNG_FMT_G8 : SPNG_FMT_RGB8;
  std::size_t size = 0;
  EXPECT_EQ(spng_decoded_image_size(context, format, &size), 0);
  out.pixels.resize(size);
  EXPECT_EQ(spng_decode_image(context, out.pixels.data(), size, format, 0), 0);
  spng_ctx_free(context);
  return out;
}

TEST(Png, DecodesToWhatWasEncoded) {
  for (const int channels : {1, 3}) {
    Picture picture{.width = 7, .height = 5, .channels = channels, .pixels = {}};
    for (int i = 0; i < 35 * channels; ++i)
      picture.pixels.push_back(static_cast<std::uint8_t>(7 * i));
    EXPECT_EQ(decode(encode_png(picture)), picture);
  }
  EXPECT_THROW(encode_png({.width = 7, .height = 5, .channels = 3, .pixels = {}}), Error);
  EXPECT_THROW(encode_png({.width = 0, .height = 0, .channels = 1, .pixels = {}}), Error);
}

/// Middle of the brightest pixels, as shares of height and width.
std::array<double, 2> bright_spot(const Picture& picture) {
  double y = 0, x = 0, weight = 0;
  for (std::int64_t i = 0; i < picture.width * picture.height; ++i) {
    if (picture.pixels[static_cast<std::size_t>(3 * i)] < 128) continue;
    y += static_cast<double>(i / picture.width), x += static_cast<double>(i % picture.width),
        ++weight;
  }
  return {y / weight / static_cast<double>(picture.height),
          x / weight / static_cast<double>(picture.width)};
}

TEST(Slices, ShowThePatientAsRadiologistsDo) {
  // A spot at the patient's right, front and top (RAS: large x, y, z), on a grid with thick slices.
  Image image;
  image.geometry.shape = {10, 20, 30};
  image.geometry.spacing_mm = {4, 1, 1};
  image.geometry.affine = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0};
  image.voxels.assign(6000, 0);
  const auto fill = [&](std::int64_t d, std::int64_t h, std::int64_t w) {
    std::fill(image.voxels.begin(), image.voxels.end(), 0.0f);
    image.voxels[static_cast<std::size_t>((d * 20 + h) * 30 + w)] = 1;
  };
  fill(8, 17, 25);
  const SliceOptions window{.high_percentile = 100};
  const auto render = [&](int axis, std::int64_t index) {
    SliceOptions o = window;
    o.axis = axis;
    o.index = index;
    return render_slice(image, o);
  };
  const Picture axial = render(0, 8), coronal = render(1, 17), sagittal = render(2, 25);
  EXPECT_EQ(axial.width, 256);
  EXPECT_EQ(axial.height, 171);  // 20 mm of 30
  EXPECT_EQ(coronal.height, 256);
  EXPECT_EQ(coronal.width, 192);  // 30 mm of 40
  const auto expect_spot = [](const Picture& picture, double y, double x) {
    const auto spot = bright_spot(picture);
    EXPECT_NEAR(spot[0], y, 0.02);
    EXPECT_NEAR(spot[1], x, 0.02);
  };
  // Front up, right side of the patient at the left; head up; front at the left.
  expect_spot(axial, 1 - 17.5 / 20, 1 - 25.5 / 30);
  expect_spot(coronal, 1 - 8.5 / 10, 1 - 25.5 / 30);
  expect_spot(sagittal, 1 - 8.5 / 10, 1 - 17.5 / 20);
  // The same patient stored the other way round looks the same.
  fill(1, 2, 4);
  image.geometry.affine = {-1, 0, 0, 29, 0, -1, 0, 19, 0, 0, -4, 36};
  expect_spot(render(0, 1), 1 - 17.5 / 20, 1 - 25.5 / 30);
  EXPECT_THROW(render(0, 10), Error);
  EXPECT_THROW(render(3, 0), Error);
}

TEST(Slices, OutlinesAreInTheColourOfTheClass) {
  Image image;
  image.geometry.shape = {3, 16, 16};
  image.voxels.assign(768, 5);  // constant: no window, no crash
  LabelMap label;
  label.geometry = image.geometry;
  label.voxels.assign(768, 0);
  for (int h = 4; h < 12; ++h) {
    for (int w = 4; w < 12; ++w)
      label.voxels[static_cast<std::size_t>(256 + h * 16 + w)] = w < 8 ? 1 : 2;
  }
  EXPECT_EQ(fullest_slice(label, 0), 1);
  const auto count = [](const Picture& picture, std::array<std::uint8_t, 3> color) {
    int n = 0;
    for (std::size_t i = 0; i < picture.pixels.size(); i += 3) {
      n += std::equal(
          color.begin(), color.end(), picture.pixels.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return n;
  };
  const SliceOptions o{.index = 1};
  const Picture plain = render_slice(image, o), predicted = render_slice(image, o, nullptr, &label),
                both = render_slice(image, o, &label, &label);
  EXPECT_EQ(count(plain, class_color(1)), 0);
  // Each half is 64 x 128 pixels: its inner edge has 2 (64 + 128) - 4.
  EXPECT_EQ(count(predicted, class_color(1)), 380);
  EXPECT_EQ(count(predicted, class_color(2)), 380);
  EXPECT_NEAR(count(both, class_color(1)), 190, 20);                   // half of it under dashes
  EXPECT_EQ(predicted.pixels[(128 * 256 + 96) * 3], plain.pixels[0]);  // nothing filled
  for (int a = 1; a <= 7; ++a) {
    for (int b = 1; b < a; ++b) EXPECT_NE(class_color(a), class_color(b));
  }
  label.geometry.shape = {16, 3, 16};
  EXPECT_THAT(error_of([&] { render_slice(image, o, &label); }), HasSubstr("16x3x16"));
}

}  // namespace
}  // namespace nas
