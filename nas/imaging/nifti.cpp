// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/nifti.h"

#include <nifti1.h>
#include <nifti2.h>

#include <Eigen/Geometry>
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/imaging/gzip.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

static_assert(sizeof(nifti_1_header) == 348 && sizeof(nifti_2_header) == 540);
static_assert(std::endian::native == std::endian::little, "the writer leaves the byte order as is");
static_assert(std::numeric_limits<float>::is_iec559);

constexpr std::int64_t kLargestHeader = 540;
constexpr std::int64_t kPrefixOfFile = 128 << 10;  // a gzip header may carry 64 KiB of names
constexpr double kLabelTolerance = 1e-3;  // floats that were scaled or averaged miss the integer
constexpr std::int64_t kMostBytes = std::int64_t{1} << 44;

// ---- bytes -------------------------------------------------------------------------------------

template <class T>
T swapped(T value) {
  auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  std::reverse(bytes.begin(), bytes.end());
  return std::bit_cast<T>(bytes);
}

// ---- header ------------------------------------------------------------------------------------

/// The fields that we use, of either version, in machine byte order.
struct Fields {
  std::int64_t datatype = 0, bitpix = 0, qform_code = 0, sform_code = 0, units = 0;
  std::array<std::int64_t, 8> dim{};
  std::array<double, 8> pixdim{};
  double vox_offset = 0, slope = 0, inter = 0;
  std::array<double, 3> quaternion{}, offset{};
  std::array<double, 12> srow{};
};

template <class Raw>
Fields fields_of(const Raw& raw, bool swap) {
  // Arguments by value: no references into a packed struct.
  const auto whole = [swap](auto v) { return static_cast<std::int64_t>(swap ? swapped(v) : v); };
  const auto real = [swap](auto v) { return static_cast<double>(swap ? swapped(v) : v); };
  Fields f;
  f.datatype = whole(raw.datatype);
  f.bitpix = whole(raw.bitpix);
  f.qform_code = whole(raw.qform_code);
  f.sform_code = whole(raw.sform_code);
  f.units = whole(raw.xyzt_units);
  for (std::size_t i = 0; i < 8; ++i) {
    f.dim[i] = whole(raw.dim[i]);
    f.pixdim[i] = real(raw.pixdim[i]);
  }
  f.vox_offset = real(raw.vox_offset);
  f.slope = real(raw.scl_slope);
  f.inter = real(raw.scl_inter);
  f.quaternion = {real(raw.quatern_b), real(raw.quatern_c), real(raw.quatern_d)};
  f.offset = {real(raw.qoffset_x), real(raw.qoffset_y), real(raw.qoffset_z)};
  for (std::size_t i = 0; i < 4; ++i) {
    f.srow[i] = real(raw.srow_x[i]);
    f.srow[4 + i] = real(raw.srow_y[i]);
    f.srow[8 + i] = real(raw.srow_z[i]);
  }
  return f;
}

bool all_finite(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

double determinant(const std::array<double, 12>& a) {
  return a[0] * (a[5] * a[10] - a[6] * a[9]) - a[1] * (a[4] * a[10] - a[6] * a[8]) +
         a[2] * (a[4] * a[9] - a[5] * a[8]);
}

/// Source: the qform section of nifti1.h. Affine in the unit of the file.
std::optional<std::array<double, 12>> affine_of_quaternion(const HeaderPlace& p) {
  auto [b, c, d] = p.quaternion;
  if (!all_finite(p.quaternion) || !all_finite(p.offset)) return std::nullopt;
  const double rest = 1 - (b * b + c * c + d * d);
  if (rest < -1e-3) return std::nullopt;
  double a = 0;
  if (rest > 1e-7) {
    a = std::sqrt(rest);
  } else {  // a half turn, rounded in the file
    const double norm = std::sqrt(b * b + c * c + d * d);
    b /= norm, c /= norm, d /= norm;
  }
  const Eigen::Matrix3d r = Eigen::Quaterniond(a, b, c, d).toRotationMatrix();
  const double qfac = p.pixdim[0] < 0 ? -1 : 1;
  std::array<double, 12> affine{};
  for (int row = 0; row < 3; ++row) {
    const auto at = 4 * static_cast<std::size_t>(row);
    affine[at] = r(row, 0) * p.pixdim[1];
    affine[at + 1] = r(row, 1) * p.pixdim[2];
    affine[at + 2] = r(row, 2) * p.pixdim[3] * qfac;
    affine[at + 3] = p.offset[static_cast<std::size_t>(row)];
  }
  return affine;
}

/// What a header says of the place, without the forms that cannot be used. \param xyz voxel edges.
HeaderPlace usable_place(const Fields& f, const std::array<double, 3>& xyz) {
  HeaderPlace place;
  const std::int64_t unit = f.units & 7;
  place.unit = unit <= NIFTI_UNITS_MICRON ? static_cast<int>(unit) : NIFTI_UNITS_UNKNOWN;
  place.pixdim = {std::isfinite(f.pixdim[0]) ? f.pixdim[0] : 1, xyz[0], xyz[1], xyz[2]};
  if (f.sform_code > 0 && all_finite(f.srow) && determinant(f.srow) != 0) {
    place.sform_code = static_cast<int>(f.sform_code);
    place.srow = f.srow;
  }
  if (f.qform_code > 0) {
    HeaderPlace with = place;
    with.quaternion = f.quaternion;
    with.offset = f.offset;
    with.qform_code = static_cast<int>(f.qform_code);
    if (affine_of_quaternion(with)) place = with;
  }
  return place;
}

/// Sets spacing and affine in mm: the sform's, else the qform's, else the spacing alone.
void apply_place(const HeaderPlace& place, Geometry& g) {
  const double scale = place.unit == NIFTI_UNITS_METER    ? 1e3
                       : place.unit == NIFTI_UNITS_MICRON ? 1e-3
                                                          : 1;
  const auto& [qfac, x, y, z] = place.pixdim;
  g.affine = {x, 0, 0, 0, 0, y, 0, 0, 0, 0, z, 0};
  if (place.sform_code > 0) {
    g.affine = place.srow;
  } else if (place.qform_code > 0) {
    g.affine = affine_of_quaternion(place).value_or(g.affine);
  }
  for (double& v : g.affine) v *= scale;
  g.spacing_mm = {z * scale, y * scale, x * scale};
}

NiftiHeader checked_header(const Fields& f, int version, bool swap, const std::string& where) {
  NiftiHeader h;
  h.version = version;
  h.byte_swapped = swap;

  switch (f.datatype) {
    case NIFTI_TYPE_UINT8:
    case NIFTI_TYPE_INT16:
    case NIFTI_TYPE_INT32:
    case NIFTI_TYPE_FLOAT32:
    case NIFTI_TYPE_FLOAT64:
    case NIFTI_TYPE_INT8:
    case NIFTI_TYPE_UINT16:
    case NIFTI_TYPE_UINT32:
    case NIFTI_TYPE_INT64:
    case NIFTI_TYPE_UINT64:
      h.type = static_cast<VoxelType>(f.datatype);
      break;
    case NIFTI_TYPE_COMPLEX64:
    case NIFTI_TYPE_COMPLEX128:
    case NIFTI_TYPE_COMPLEX256:
      fail(ErrorKind::Input,
           where,
           ": datatype: expected an integer or float type, found complex numbers (",
           f.datatype,
           "); write magnitudes");
    case NIFTI_TYPE_RGB24:
    case NIFTI_TYPE_RGBA32:
      fail(ErrorKind::Input,
           where,
           ": datatype: expected an integer or float type, found RGB colours (",
           f.datatype,
           "); write one channel per colour");
    default:
      fail(ErrorKind::Input,
           where,
           ": datatype: expected an integer or float type, found code ",
           f.datatype);
  }
  NAS_CHECK(f.bitpix == 8 * bytes_per_voxel(h.type),
            where,
            ": bitpix: expected ",
            8 * bytes_per_voxel(h.type),
            " for ",
            to_text(h.type),
            ", found ",
            f.bitpix);

  const std::int64_t dims = f.dim[0];
  NAS_CHECK(dims >= 1 && dims <= 7, where, ": dim[0]: expected 1 to 7 dimensions, found ", dims);
  std::array<std::int64_t, 8> edge;
  edge.fill(1);
  std::int64_t total = bytes_per_voxel(h.type);
  for (std::size_t i = 1; i <= static_cast<std::size_t>(dims); ++i) {
    NAS_CHECK(f.dim[i] >= 1 && f.dim[i] <= kMostBytes / total,
              where,
              ": dim[",
              i,
              "]: expected a positive edge of a volume under 16 TB, found ",
              f.dim[i]);
    edge[i] = f.dim[i];
    total *= edge[i];
  }
  h.geometry.shape = {edge[3], edge[2], edge[1]};
  h.channels = 1;
  for (std::size_t i = 4; i < 8; ++i) {
    NAS_CHECK(edge[i] == 1 || h.channels == 1,
              where,
              ": dim: expected at most one dimension beside x, y, z, found ",
              "two (",
              h.channels,
              " and ",
              edge[i],
              ")");
    h.channels = std::max(h.channels, edge[i]);
  }

  std::array<double, 3> xyz{1, 1, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    const double size = std::abs(f.pixdim[i + 1]);
    if (static_cast<std::int64_t>(i) >= dims && !(size > 0 && std::isfinite(size))) continue;
    NAS_CHECK(std::isfinite(size) && size > 0,
              where,
              ": pixdim[",
              i + 1,
              "]: expected a positive voxel size, found ",
              f.pixdim[i + 1]);
    xyz[i] = size;
  }
  h.geometry.stored = usable_place(f, xyz);
  apply_place(*h.geometry.stored, h.geometry);
  NAS_CHECK(
      all_finite(h.geometry.affine) && all_finite(h.geometry.spacing_mm) &&
          std::min({h.geometry.spacing_mm[0], h.geometry.spacing_mm[1], h.geometry.spacing_mm[2]}) >
              0,
      where,
      ": expected finite spacing and affine, found values out of range");

  if (std::isfinite(f.slope) && f.slope != 0) {
    h.slope = f.slope;
    h.inter = std::isfinite(f.inter) ? f.inter : 0;
  }

  const std::int64_t least = version == 1 ? 352 : 544;
  if (f.vox_offset == 0) {
    h.data_offset = least;  // some writers leave it open
  } else {
    NAS_CHECK(f.vox_offset >= static_cast<double>(least) &&
                  f.vox_offset <= static_cast<double>(kMostBytes) &&
                  f.vox_offset == std::floor(f.vox_offset),
              where,
              ": vox_offset: expected an integer from ",
              least,
              " on, found ",
              f.vox_offset);
    h.data_offset = static_cast<std::int64_t>(f.vox_offset);
  }
  return h;
}

/// \param bytes the first inflated bytes of the file.
NiftiHeader header_of(std::span<const std::byte> bytes, const std::string& where) {
  NAS_CHECK(bytes.size() >= sizeof(nifti_1_header),
            where,
            ": expected a NIfTI header of at least 348 bytes, found ",
            bytes.size());
  std::int32_t size = 0;
  std::memcpy(&size, bytes.data(), 4);
  const bool swap = size == swapped(std::int32_t{348}) || size == swapped(std::int32_t{540});
  if (swap) size = swapped(size);
  if (size == 348) {
    nifti_1_header raw;
    std::memcpy(&raw, bytes.data(), sizeof(raw));
    const std::string_view magic(raw.magic, 3);
    NAS_CHECK(magic != "ni1",
              where,
              ": found the header of an .hdr/.img pair; convert it to one .nii file");
    NAS_CHECK(magic == "n+1",
              where,
              ": magic: expected \"n+1\", found something else (an ANALYZE 7.5 file?)");
    return checked_header(fields_of(raw, swap), 1, swap, where);
  }
  if (size == 540) {
    NAS_CHECK(bytes.size() >= sizeof(nifti_2_header),
              where,
              ": expected a NIfTI-2 header of 540 bytes, found ",
              bytes.size());
    nifti_2_header raw;
    std::memcpy(&raw, bytes.data(), sizeof(raw));
    const std::string_view magic(raw.magic, 3);
    NAS_CHECK(magic != "ni2",
              where,
              ": found the header of an .hdr/.img pair; convert it to one .nii file");
    NAS_CHECK(magic == "n+2", where, ": magic: expected \"n+2\", found something else");
    return checked_header(fields_of(raw, swap), 2, swap, where);
  }
  fail(ErrorKind::Input,
       where,
       ": sizeof_hdr: expected 348 (NIfTI-1) or 540 (NIfTI-2), found ",
       size,
       ": not a NIfTI file");
}

// ---- voxels ------------------------------------------------------------------------------------

/// Calls visit(T{}) with the C++ type of `type`.
template <class Visit>
decltype(auto) with_type(VoxelType type, const Visit& visit) {
  switch (type) {
    case VoxelType::UInt8:
      return visit(std::uint8_t{});
    case VoxelType::Int16:
      return visit(std::int16_t{});
    case VoxelType::Int32:
      return visit(std::int32_t{});
    case VoxelType::Float32:
      return visit(float{});
    case VoxelType::Float64:
      return visit(double{});
    case VoxelType::Int8:
      return visit(std::int8_t{});
    case VoxelType::UInt16:
      return visit(std::uint16_t{});
    case VoxelType::UInt32:
      return visit(std::uint32_t{});
    case VoxelType::Int64:
      return visit(std::int64_t{});
    case VoxelType::UInt64:
      return visit(std::uint64_t{});
  }
  fail(ErrorKind::Internal, "voxel type ", static_cast<int>(type));
}

template <class T>
T load(const std::byte* from, bool swap) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return swap ? swapped(value) : value;
}

/// Header and voxel bytes of a whole file in memory.
struct Loaded {
  NiftiHeader header;
  Inflated inflated;  // owns `voxels` of a gzipped file
  std::span<const std::byte> voxels;
};

Loaded load_nifti(std::span<const std::byte> bytes, const std::string& where) {
  Loaded out;
  out.header = parse_nifti_header(bytes, where);
  const auto offset = static_cast<std::uint64_t>(out.header.data_offset);
  const auto size = static_cast<std::uint64_t>(out.header.data_bytes());
  if (is_gzip(bytes)) {
    out.inflated = inflate_all(bytes, offset + size, where);
    out.voxels = {out.inflated.bytes.get() + offset, size};
  } else {
    NAS_CHECK(offset + size <= bytes.size(),
              where,
              ": truncated: expected ",
              offset + size,
              " bytes of header and voxels, found ",
              bytes.size());
    out.voxels = bytes.subspan(offset, size);
  }
  return out;
}

/// The file's bytes, with errors that name it.
MappedFile map_nifti(const fs::path& file) {
  std::error_code code;
  NAS_CHECK_KIND(Io, fs::exists(file, code), file.string(), ": no such file");
  return MappedFile(file);
}

std::string voxel_place(std::size_t index, const Extent3& shape) {
  const auto i = static_cast<std::int64_t>(index);
  return concat_text("voxel (x, y, z) = (",
                     i % shape[2],
                     ", ",
                     i / shape[2] % shape[1],
                     ", ",
                     i / shape[2] / shape[1],
                     ")");
}

// ---- writing -----------------------------------------------------------------------------------

/// The header's account of a geometry: that of the file it is from as long as it holds, else mm.
HeaderPlace place_of(const Geometry& g) {
  if (g.stored) {
    Geometry said = g;
    apply_place(*g.stored, said);
    if (said == g) return *g.stored;
  }
  HeaderPlace place;
  place.pixdim = {1, g.spacing_mm[2], g.spacing_mm[1], g.spacing_mm[0]};
  place.sform_code = NIFTI_XFORM_SCANNER_ANAT;
  place.srow = g.affine;
  place.offset = {g.affine[3], g.affine[7], g.affine[11]};
  // The qform can only say rotation, voxel size and a flip of z.
  Eigen::Matrix3d r;
  for (int row = 0; row < 3; ++row) {
    for (int col = 0; col < 3; ++col) {
      r(row, col) = g.affine[4 * static_cast<std::size_t>(row) + static_cast<std::size_t>(col)] /
                    g.spacing_mm[2 - static_cast<std::size_t>(col)];
    }
  }
  if (r.determinant() < 0) place.pixdim[0] = -1;
  r.col(2) *= place.pixdim[0];
  if (!((r * r.transpose() - Eigen::Matrix3d::Identity()).cwiseAbs().maxCoeff() < 1e-4))
    return place;
  Eigen::Quaterniond q(r);
  q.normalize();
  if (q.w() < 0) q.coeffs() *= -1;
  place.quaternion = {q.x(), q.y(), q.z()};
  place.qform_code = NIFTI_XFORM_SCANNER_ANAT;
  return place;
}

template <class Raw>
void fill_header(Raw& raw, const Geometry& g, std::int64_t channels, VoxelType type) {
  const auto set = [](auto& field, auto value) {
    field = static_cast<std::remove_reference_t<decltype(field)>>(value);
  };
  raw.sizeof_hdr = sizeof(Raw);
  set(raw.datatype, type);
  set(raw.bitpix, 8 * bytes_per_voxel(type));
  const std::array<std::int64_t, 8> dim{
      channels > 1 ? 4 : 3, g.shape[2], g.shape[1], g.shape[0], channels, 1, 1, 1};
  const HeaderPlace place = place_of(g);
  set(raw.qform_code, place.qform_code);
  set(raw.sform_code, place.sform_code);
  for (std::size_t i = 0; i < 8; ++i) {
    set(raw.dim[i], dim[i]);
    set(raw.pixdim[i], i < 4 ? place.pixdim[i] : 1.0);
  }
  set(raw.quatern_b, place.quaternion[0]);
  set(raw.quatern_c, place.quaternion[1]);
  set(raw.quatern_d, place.quaternion[2]);
  set(raw.qoffset_x, place.offset[0]);
  set(raw.qoffset_y, place.offset[1]);
  set(raw.qoffset_z, place.offset[2]);
  for (std::size_t i = 0; i < 4; ++i) {
    set(raw.srow_x[i], place.srow[i]);
    set(raw.srow_y[i], place.srow[4 + i]);
    set(raw.srow_z[i], place.srow[8 + i]);
  }
  raw.scl_slope = 1;
  set(raw.xyzt_units, place.unit);
  set(raw.vox_offset, sizeof(Raw) + 4);
  std::memcpy(raw.descrip, "VoxNAS", 7);
}

std::string header_bytes(const Geometry& g, std::int64_t channels, VoxelType type) {
  const bool wide = std::max({g.shape[0], g.shape[1], g.shape[2], channels}) > 32767;
  std::string bytes;
  if (wide) {
    nifti_2_header raw{};
    fill_header(raw, g, channels, type);
    std::memcpy(raw.magic, "n+2\0\r\n\032\n", 8);
    bytes.assign(reinterpret_cast<const char*>(&raw), sizeof(raw));
  } else {
    nifti_1_header raw{};
    fill_header(raw, g, channels, type);
    raw.regular = 'r';
    std::memcpy(raw.magic, "n+1", 4);
    bytes.assign(reinterpret_cast<const char*>(&raw), sizeof(raw));
  }
  return bytes.append(4, '\0');  // no extensions follow
}

/// Appends each voxel through `convert` and writes the file.
template <class Out, class In, class Convert>
void write_voxels(const fs::path& file,
                  const Volume<In>& v,
                  VoxelType type,
                  const Convert& convert) {
  const std::string ending = nifti_ending(file);
  NAS_CHECK(!ending.empty(), file.string(), ": expected a name ending in .nii or .nii.gz");
  const Geometry& g = v.geometry;
  NAS_CHECK(g.shape[0] > 0 && g.shape[1] > 0 && g.shape[2] > 0 && v.channels > 0 &&
                static_cast<std::int64_t>(v.voxels.size()) == v.channels * v.voxels_per_channel(),
            file.string(),
            ": expected ",
            v.channels,
            " x ",
            to_text(g.shape),
            " voxels, found ",
            v.voxels.size());
  NAS_CHECK(all_finite(g.affine) && all_finite(g.spacing_mm) && g.spacing_mm[0] > 0 &&
                g.spacing_mm[1] > 0 && g.spacing_mm[2] > 0,
            file.string(),
            ": expected a finite affine and positive spacing");
  std::string bytes = header_bytes(g, v.channels, type);
  const std::size_t start = bytes.size();
  bytes.resize(start + v.voxels.size() * sizeof(Out));
  for (std::size_t i = 0; i < v.voxels.size(); ++i) {
    const Out value = convert(v.voxels[i]);
    std::memcpy(bytes.data() + start + i * sizeof(Out), &value, sizeof(Out));
  }
  write_file_atomic(file, ending.size() > 4 ? gzip(bytes) : bytes);
}

}  // namespace

std::string to_text(VoxelType type) {
  switch (type) {
    case VoxelType::UInt8:
      return "uint8";
    case VoxelType::Int16:
      return "int16";
    case VoxelType::Int32:
      return "int32";
    case VoxelType::Float32:
      return "float32";
    case VoxelType::Float64:
      return "float64";
    case VoxelType::Int8:
      return "int8";
    case VoxelType::UInt16:
      return "uint16";
    case VoxelType::UInt32:
      return "uint32";
    case VoxelType::Int64:
      return "int64";
    case VoxelType::UInt64:
      return "uint64";
  }
  fail(ErrorKind::Internal, "voxel type ", static_cast<int>(type));
}

std::int64_t bytes_per_voxel(VoxelType type) {
  return with_type(type, [](auto zero) { return static_cast<std::int64_t>(sizeof(zero)); });
}

NiftiHeader parse_nifti_header(std::span<const std::byte> bytes, const std::string& where) {
  NAS_CHECK(!bytes.empty(), where, ": empty file");
  return is_gzip(bytes)
             ? header_of(inflate_prefix(bytes, kLargestHeader), where)
             : header_of(bytes.first(std::min<std::size_t>(bytes.size(), kLargestHeader)), where);
}

Image parse_nifti(std::span<const std::byte> bytes, const std::string& where) {
  const Loaded loaded = load_nifti(bytes, where);
  const NiftiHeader& h = loaded.header;
  Image image;
  image.geometry = h.geometry;
  image.channels = h.channels;
  image.voxels.resize(static_cast<std::size_t>(volume(h.geometry.shape) * h.channels));
  const bool scaled = h.slope != 1 || h.inter != 0;
  with_type(h.type, [&](auto zero) {
    using T = decltype(zero);
    const std::byte* from = loaded.voxels.data();
    for (float& voxel : image.voxels) {
      const T value = load<T>(from, h.byte_swapped);
      voxel = scaled ? static_cast<float>(static_cast<double>(value) * h.slope + h.inter)
                     : static_cast<float>(value);
      from += sizeof(T);
    }
  });
  return image;
}

LabelMap parse_nifti_label(std::span<const std::byte> bytes, const std::string& where) {
  const NiftiHeader early = parse_nifti_header(bytes, where);
  NAS_CHECK(early.channels == 1,
            where,
            ": expected a label map with one channel, found ",
            early.channels);
  const Loaded loaded = load_nifti(bytes, where);
  const NiftiHeader& h = loaded.header;
  LabelMap label;
  label.geometry = h.geometry;
  label.voxels.resize(static_cast<std::size_t>(volume(h.geometry.shape)));
  const bool scaled = h.slope != 1 || h.inter != 0;
  with_type(h.type, [&](auto zero) {
    using T = decltype(zero);
    const std::byte* from = loaded.voxels.data();
    for (std::size_t i = 0; i < label.voxels.size(); ++i, from += sizeof(T)) {
      double value = static_cast<double>(load<T>(from, h.byte_swapped));
      if (scaled) value = value * h.slope + h.inter;
      const double whole = std::nearbyint(value);
      // NaN fails the comparison.
      if (!(std::abs(value - whole) <= kLabelTolerance && whole >= -32768 && whole <= 32767)) {
        throw NotALabel(concat_text(where,
                                    ": ",
                                    voxel_place(i, h.geometry.shape),
                                    ": expected an integer label in [-32768, 32767], found ",
                                    value));
      }
      label.voxels[i] = static_cast<std::int16_t>(whole);
    }
  });
  return label;
}

NiftiHeader read_nifti_header(const fs::path& file) {
  std::error_code code;
  NAS_CHECK_KIND(Io, fs::exists(file, code), file.string(), ": no such file");
  std::ifstream in(file, std::ios::binary);
  NAS_CHECK_KIND(Io, in && !fs::is_directory(file, code), file.string(), ": cannot be read");
  std::vector<std::byte> bytes(static_cast<std::size_t>(kPrefixOfFile));
  in.read(reinterpret_cast<char*>(bytes.data()), kPrefixOfFile);
  return parse_nifti_header(std::span(bytes).first(static_cast<std::size_t>(in.gcount())),
                            file.string());
}

Image read_nifti_image(const fs::path& file) {
  const MappedFile mapped = map_nifti(file);
  return parse_nifti(mapped.bytes(), file.string());
}

LabelMap read_nifti_label(const fs::path& file) {
  const MappedFile mapped = map_nifti(file);
  return parse_nifti_label(mapped.bytes(), file.string());
}

void write_nifti(const fs::path& file, const Image& image) {
  write_voxels<float>(file, image, VoxelType::Float32, [](float v) { return v; });
}

void write_nifti(const fs::path& file, const LabelMap& label) {
  const bool small = std::all_of(
      label.voxels.begin(), label.voxels.end(), [](int v) { return v >= 0 && v <= 255; });
  if (small) {
    write_voxels<std::uint8_t>(
        file, label, VoxelType::UInt8, [](int v) { return static_cast<std::uint8_t>(v); });
  } else {
    write_voxels<std::int16_t>(file, label, VoxelType::Int16, [](std::int16_t v) { return v; });
  }
}

void write_nifti_int16(const fs::path& file, const Image& image) {
  write_voxels<std::int16_t>(file, image, VoxelType::Int16, [](float v) {
    return static_cast<std::int16_t>(std::clamp(std::nearbyint(v), -32768.0f, 32767.0f));
  });
}

std::string nifti_stem(const fs::path& file) {
  std::string name = file.filename().string();
  name.resize(name.size() - nifti_ending(file).size());
  return name;
}

std::string nifti_ending(const fs::path& file) {
  const std::string name = file.filename().string();
  std::string lower = name;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const std::string_view ending : {".nii.gz", ".nii"}) {
    if (lower.ends_with(ending)) return name.substr(name.size() - ending.size());
  }
  return "";
}

bool is_nifti_name(const fs::path& file) {
  return !file.filename().string().starts_with('.') && !nifti_ending(file).empty();
}

double grid_distance_mm(const Geometry& a, const Geometry& b) {
  // Affine maps differ most at a corner.
  double worst = 0;
  for (int corner = 0; corner < 8; ++corner) {
    std::array<double, 4> p{0, 0, 0, 1};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if ((corner >> axis & 1) != 0) p[axis] = static_cast<double>(a.shape[2 - axis] - 1);
    }
    double squared = 0;
    for (std::size_t row = 0; row < 3; ++row) {
      double difference = 0;
      for (std::size_t col = 0; col < 4; ++col)
        difference += (a.affine[4 * row + col] - b.affine[4 * row + col]) * p[col];
      squared += difference * difference;
    }
    worst = std::max(worst, std::sqrt(squared));
  }
  return worst;
}

}  // namespace nas
