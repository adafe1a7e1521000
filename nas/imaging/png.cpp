// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/png.h"

#include <spng.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>

#include "nas/core/error.h"

namespace nas {
namespace {

/// Value below which `percent` of the finite values lie; the vector is reordered.
float percentile(std::vector<float>& values, double percent) {
  const double place = percent / 100 * static_cast<double>(values.size() - 1);
  auto at = values.begin() + static_cast<std::ptrdiff_t>(
                                 std::clamp(place, 0.0, static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// How a slice lies in the picture.
struct View {
  std::size_t row_axis = 1, column_axis = 2;  // volume axes that run down and to the right
  bool flip_rows = false, flip_columns = false;
  std::int64_t height = 0, width = 0;  // pixels
};

View view_of(const Geometry& g, int axis, std::int64_t min_edge) {
  View v;
  v.row_axis = axis == 0 ? 1 : 0;
  v.column_axis = axis == 2 ? 1 : 2;
  // Row of the affine (patient axis) and its column (voxel axis x, y, z) for volume axis a: both 2
  // - a as long as the grid is roughly aligned with the patient; a tilted grid is shown as it lies.
  const auto points_up = [&](std::size_t a) { return g.affine[4 * (2 - a) + (2 - a)] > 0; };
  v.flip_rows = points_up(v.row_axis);        // head or front up
  v.flip_columns = points_up(v.column_axis);  // patient's left at the right, front at the left
  const double tall = static_cast<double>(g.shape[v.row_axis]) * g.spacing_mm[v.row_axis];
  const double wide = static_cast<double>(g.shape[v.column_axis]) * g.spacing_mm[v.column_axis];
  const double finest = std::min(g.spacing_mm[v.row_axis], g.spacing_mm[v.column_axis]);
  // No voxel is lost: at least one pixel per finest voxel; at most 2048 pixels whatever the header
  // claims.
  const double longest = std::min(std::max(tall, wide) / finest, 2048.0);
  const double scale = std::max(longest, static_cast<double>(min_edge)) / std::max(tall, wide);
  v.height = std::max<std::int64_t>(1, std::llround(tall * scale));
  v.width = std::max<std::int64_t>(1, std::llround(wide * scale));
  return v;
}

/// Voxel coordinate at the middle of pixel `i` of `count`.
double voxel_at(std::int64_t i, std::int64_t count, std::int64_t voxels, bool flip) {
  if (flip) i = count - 1 - i;
  return (static_cast<double>(i) + 0.5) * static_cast<double>(voxels) / static_cast<double>(count) -
         0.5;
}

std::size_t offset_of(const Extent3& shape, const std::array<std::int64_t, 3>& at) {
  return static_cast<std::size_t>((at[0] * shape[1] + at[1]) * shape[2] + at[2]);
}

/// Draws the inner edge of every class, `width` pixels wide; every other `dash` pixels if dash > 0.
void draw_outlines(Picture& picture,
                   const std::vector<std::int16_t>& labels,
                   std::int64_t width,
                   std::int64_t dash,
                   double tint) {
  const auto label_at = [&](std::int64_t y, std::int64_t x) -> std::int16_t {
    if (y < 0 || x < 0 || y >= picture.height || x >= picture.width) return 0;
    return labels[static_cast<std::size_t>(y * picture.width + x)];
  };
  for (std::int64_t y = 0; y < picture.height; ++y) {
    for (std::int64_t x = 0; x < picture.width; ++x) {
      const std::int16_t own = label_at(y, x);
      if (own <= 0 || (dash > 0 && (x + y) / dash % 2 == 1)) continue;
      bool edge = false;
      for (std::int64_t d = 1; d <= width && !edge; ++d) {
        edge = label_at(y - d, x) != own || label_at(y + d, x) != own ||
               label_at(y, x - d) != own || label_at(y, x + d) != own;
      }
      if (!edge) continue;
      const auto color = class_color(own);
      for (std::size_t c = 0; c < 3; ++c) {
        const double mixed = color[c] + tint * (255.0 - color[c]);
        picture.pixels[static_cast<std::size_t>(y * picture.width + x) * 3 + c] =
            static_cast<std::uint8_t>(mixed);
      }
    }
  }
}

}  // namespace

std::string encode_png(const Picture& picture) {
  NAS_CHECK_KIND(Shape,
                 picture.channels == 1 || picture.channels == 3,
                 "picture: expected 1 or 3 channels, found ",
                 picture.channels);
  NAS_CHECK_KIND(Shape,
                 picture.width > 0 && picture.height > 0 && picture.width < 65536 &&
                     picture.height < 65536 &&
                     static_cast<std::int64_t>(picture.pixels.size()) ==
                         picture.width * picture.height * picture.channels,
                 "picture: expected ",
                 picture.width,
                 " x ",
                 picture.height,
                 " x ",
                 picture.channels,
                 " bytes, found ",
                 picture.pixels.size());
  const std::unique_ptr<spng_ctx, void (*)(spng_ctx*)> context(spng_ctx_new(SPNG_CTX_ENCODER),
                                                               spng_ctx_free);
  NAS_CHECK_KIND(Internal, context != nullptr, "libspng: no encoder");
  spng_ihdr header{};
  header.width = static_cast<std::uint32_t>(picture.width);
  header.height = static_cast<std::uint32_t>(picture.height);
  header.bit_depth = 8;
  header.color_type = picture.channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR;
  const auto check = [](int result) {
    NAS_CHECK_KIND(Internal, result == 0, "libspng: ", spng_strerror(result));
  };
  check(spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1));
  check(spng_set_ihdr(context.get(), &header));
  check(spng_encode_image(context.get(),
                          picture.pixels.data(),
                          picture.pixels.size(),
                          SPNG_FMT_PNG,
                          SPNG_ENCODE_FINALIZE));
  std::size_t size = 0;
  int result = 0;
  const std::unique_ptr<void, void (*)(void*)> bytes(
      spng_get_png_buffer(context.get(), &size, &result), std::free);
  check(result);
  return {static_cast<const char*>(bytes.get()), size};
}

std::array<std::uint8_t, 3> class_color(std::int64_t label) {
  constexpr std::array<std::array<std::uint8_t, 3>, 7> kColors{{{230, 159, 0},
                                                                {86, 180, 233},
                                                                {0, 158, 115},
                                                                {240, 228, 66},
                                                                {213, 94, 0},
                                                                {204, 121, 167},
                                                                {0, 114, 178}}};
  return kColors[static_cast<std::size_t>((std::max<std::int64_t>(label, 1) - 1) % 7)];
}

Picture render_slice(const Image& image,
                     const SliceOptions& options,
                     const LabelMap* reference,
                     const LabelMap* prediction) {
  const Extent3& shape = image.geometry.shape;
  NAS_CHECK(options.axis >= 0 && options.axis < 3,
            "slice: expected axis 0, 1 or 2, found ",
            options.axis);
  const auto axis = static_cast<std::size_t>(options.axis);
  NAS_CHECK(options.index >= 0 && options.index < shape[axis],
            "slice: expected an index in [0, ",
            shape[axis],
            "), found ",
            options.index);
  NAS_CHECK(options.channel >= 0 && options.channel < image.channels,
            "slice: expected a channel in [0, ",
            image.channels,
            "), found ",
            options.channel);
  for (const LabelMap* label : {reference, prediction}) {
    NAS_CHECK_KIND(Shape,
                   label == nullptr || label->geometry.shape == shape,
                   "slice: expected a label map of ",
                   to_text(shape),
                   " voxels, found ",
                   label == nullptr ? "" : to_text(label->geometry.shape));
  }

  const auto voxels = image.channel(options.channel);
  std::vector<float> finite;
  const std::size_t stride =
      std::max<std::size_t>(1, voxels.size() / 500000);  // a sample is enough for a window
  for (std::size_t i = 0; i < voxels.size(); i += stride) {
    if (std::isfinite(voxels[i])) finite.push_back(voxels[i]);
  }
  float low = 0, high = 1;
  if (!finite.empty()) {
    low = percentile(finite, options.low_percentile);
    high = percentile(finite, options.high_percentile);
  }
  if (!(high > low)) high = low + 1;

  const View view = view_of(image.geometry, options.axis, options.min_edge);
  Picture picture{.width = view.width, .height = view.height, .channels = 3, .pixels = {}};
  const auto pixels = static_cast<std::size_t>(view.width * view.height);
  picture.pixels.resize(pixels * 3);
  std::vector<std::int16_t> reference_pixels(reference != nullptr ? pixels : 0);
  std::vector<std::int16_t> prediction_pixels(prediction != nullptr ? pixels : 0);

  std::array<std::int64_t, 3> at{};
  at[axis] = options.index;
  const std::int64_t rows = shape[view.row_axis], columns = shape[view.column_axis];
  std::size_t pixel = 0;
  for (std::int64_t y = 0; y < view.height; ++y) {
    const double row = voxel_at(y, view.height, rows, view.flip_rows);
    const auto row0 = static_cast<std::int64_t>(std::floor(row));
    for (std::int64_t x = 0; x < view.width; ++x, ++pixel) {
      const double column = voxel_at(x, view.width, columns, view.flip_columns);
      const auto column0 = static_cast<std::int64_t>(std::floor(column));
      // Bilinear between voxel centres, the border voxels repeated.
      double value = 0;
      for (std::int64_t i = 0; i < 2; ++i) {
        for (std::int64_t j = 0; j < 2; ++j) {
          at[view.row_axis] = std::clamp<std::int64_t>(row0 + i, 0, rows - 1);
          at[view.column_axis] = std::clamp<std::int64_t>(column0 + j, 0, columns - 1);
          const double weight =
              std::abs(1 - static_cast<double>(i) - (row - static_cast<double>(row0))) *
              std::abs(1 - static_cast<double>(j) - (column - static_cast<double>(column0)));
          const float v = voxels[offset_of(shape, at)];
          value += weight * static_cast<double>(std::isfinite(v) ? v : low);
        }
      }
      const double gray =
          255 * std::clamp(
                    (value - static_cast<double>(low)) / static_cast<double>(high - low), 0.0, 1.0);
      for (std::size_t c = 0; c < 3; ++c)
        picture.pixels[pixel * 3 + c] = static_cast<std::uint8_t>(std::lround(gray));
      at[view.row_axis] = std::clamp<std::int64_t>(std::llround(row), 0, rows - 1);
      at[view.column_axis] = std::clamp<std::int64_t>(std::llround(column), 0, columns - 1);
      const std::size_t voxel = offset_of(shape, at);
      if (reference != nullptr) reference_pixels[pixel] = reference->voxels[voxel];
      if (prediction != nullptr) prediction_pixels[pixel] = prediction->voxels[voxel];
    }
  }
  const std::int64_t unit = std::max<std::int64_t>(1, std::max(view.width, view.height) / 256);
  if (prediction != nullptr) draw_outlines(picture, prediction_pixels, unit, 0, 0);
  if (reference != nullptr) draw_outlines(picture, reference_pixels, unit, 4 * unit, 0.6);
  return picture;
}

std::int64_t fullest_slice(const LabelMap& label, int axis) {
  NAS_CHECK(axis >= 0 && axis < 3, "slice: expected axis 0, 1 or 2, found ", axis);
  const Extent3& shape = label.geometry.shape;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(shape[static_cast<std::size_t>(axis)]),
                                   0);
  std::size_t i = 0;
  for (std::int64_t d = 0; d < shape[0]; ++d) {
    for (std::int64_t h = 0; h < shape[1]; ++h) {
      for (std::int64_t w = 0; w < shape[2]; ++w, ++i) {
        if (label.voxels[i] > 0)
          ++counts[static_cast<std::size_t>(axis == 0 ? d : axis == 1 ? h : w)];
      }
    }
  }
  const auto best = std::max_element(counts.begin(), counts.end());
  if (best == counts.end() || *best == 0) return shape[static_cast<std::size_t>(axis)] / 2;
  return best - counts.begin();
}

}  // namespace nas
