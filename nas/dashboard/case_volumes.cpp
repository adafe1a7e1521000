// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/case_volumes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/dashboard/written_bytes.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/png.h"
#include "nas/report/text.h"
#include "nas/search/case_scores.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostVoxels = 64 << 20;
constexpr std::array<const char*, 3> kFinals{"best", "baseline", "control"};

/// The data set as the run took it; images stay as they are stored.
DataSet data_of(LiveRun& run) {
  return run.with_database([](const ResultsDb& db) {
    const RunRecord record = db.run();
    DataSet set = open_data_set(record.data_folder);
    const Json setup = parse_json(record.setup_json, db.file().string());
    set.accept_misaligned = setup.is_object() && setup.value("accept_misaligned", false);
    set.orientation = "";
    return set;
  });
}

const CaseFiles& case_of(const DataSet& set, const std::string& id) {
  const auto found = std::ranges::find(set.training, id, &CaseFiles::id);
  NAS_CHECK_KIND(Usage,
                 found != set.training.end(),
                 set.name,
                 ": expected the name of a case, found \"",
                 id.substr(0, 64),
                 "\"");
  return *found;
}

/// \throws Error(Input) saying why there is none.
fs::path prediction_file(LiveRun& run, const std::string& label, const std::string& id) {
  NAS_CHECK_KIND(Usage,
                 std::ranges::find(kFinals, label) != kFinals.end(),
                 "expected a prediction of best, baseline or control, found \"",
                 label.substr(0, 64),
                 "\"");
  const fs::path file = RunFolder(run.folder()).predictions(label) / (id + ".nii.gz");
  NAS_CHECK(fs::is_regular_file(file),
            file.string(),
            ": no such prediction; the run has none of it, or it was removed");
  return file;
}

/// Patient millimetres of a voxel (x, y, z).
std::array<double, 3> place_of(const Geometry& g, const std::array<double, 3>& voxel) {
  std::array<double, 3> mm{};
  for (std::size_t row = 0; row < 3; ++row) {
    mm[row] = g.affine[4 * row + 3];
    for (std::size_t col = 0; col < 3; ++col) mm[row] += g.affine[4 * row + col] * voxel[col];
  }
  return mm;
}

/// Voxels at places: the inverse of place_of. \throws Error(Input) if the affine has none.
class VoxelFinder {
 public:
  explicit VoxelFinder(const Geometry& g) : affine_(g.affine) {
    const auto& a = affine_;
    const auto minor = [&](std::size_t r0, std::size_t r1, std::size_t c0, std::size_t c1) {
      return a[4 * r0 + c0] * a[4 * r1 + c1] - a[4 * r0 + c1] * a[4 * r1 + c0];
    };
    determinant_ = a[0] * minor(1, 2, 1, 2) - a[1] * minor(1, 2, 0, 2) + a[2] * minor(1, 2, 0, 1);
    NAS_CHECK(determinant_ != 0 && std::isfinite(determinant_), "a grid without volume");
    // Cofactors, transposed.
    rows_ = {{{minor(1, 2, 1, 2), -minor(0, 2, 1, 2), minor(0, 1, 1, 2)},
              {-minor(1, 2, 0, 2), minor(0, 2, 0, 2), -minor(0, 1, 0, 2)},
              {minor(1, 2, 0, 1), -minor(0, 2, 0, 1), minor(0, 1, 0, 1)}}};
  }
  std::array<double, 3> operator()(const std::array<double, 3>& mm) const {
    const std::array<double, 3> d{mm[0] - affine_[3], mm[1] - affine_[7], mm[2] - affine_[11]};
    std::array<double, 3> voxel{};
    for (std::size_t i = 0; i < 3; ++i) {
      voxel[i] = (rows_[i][0] * d[0] + rows_[i][1] * d[1] + rows_[i][2] * d[2]) / determinant_;
    }
    return voxel;
  }

 private:
  std::array<double, 12> affine_;
  std::array<std::array<double, 3>, 3> rows_{};
  double determinant_ = 0;
};

/// Each voxel of `grid` takes the label of the nearest voxel; 0 outside.
LabelMap on_grid(const LabelMap& map, const Geometry& grid) {
  LabelMap result{.geometry = grid, .channels = 1, .voxels = {}};
  result.voxels.resize(static_cast<std::size_t>(volume(grid.shape)));
  const VoxelFinder voxel_at(map.geometry);
  const auto [depth, height, width] = map.geometry.shape;
  std::size_t i = 0;
  for (std::int64_t z = 0; z < grid.shape[0]; ++z) {
    for (std::int64_t y = 0; y < grid.shape[1]; ++y) {
      for (std::int64_t x = 0; x < grid.shape[2]; ++x, ++i) {
        const auto mm = place_of(
            grid, {static_cast<double>(x), static_cast<double>(y), static_cast<double>(z)});
        const auto v = voxel_at(mm);
        if (std::ranges::any_of(v, [](double c) { return !(std::abs(c) < 1e9); })) continue;
        const std::int64_t px = std::llround(v[0]), py = std::llround(v[1]),
                           pz = std::llround(v[2]);
        const bool inside =
            px >= 0 && px < width && py >= 0 && py < height && pz >= 0 && pz < depth;
        if (!inside) continue;
        result.voxels[i] = map.voxels[static_cast<std::size_t>((pz * height + py) * width + px)];
      }
    }
  }
  return result;
}

constexpr const char* kResampled = "resampled to the image's grid";

LabelMap prediction_of(LiveRun& run,
                       const std::string& label,
                       const std::string& id,
                       const Geometry& grid,
                       std::string& note) {
  LabelMap map = read_nifti_label(prediction_file(run, label, id));
  if (same_grid(map.geometry, grid)) return map;
  note = kResampled;
  return on_grid(map, grid);
}

/// kMissed where the reference has a class and the prediction none, kExtra the other way round,
/// kWrongClass where they differ. What the reference leaves out is no error.
LabelMap error_map(const LabelMap& reference,
                   const LabelMap& prediction,
                   const LabelScheme& labels) {
  LabelMap errors = reference;
  for (std::size_t i = 0; i < errors.voxels.size(); ++i) {
    const std::int16_t r = reference.voxels[i], p = prediction.voxels[i];
    const bool ignored = labels.has_ignore && labels.ignore_label() == r;
    const ErrorVoxel error = r == p || ignored ? kRight
                             : p == 0          ? kMissed
                             : r == 0          ? kExtra
                                               : kWrongClass;
    errors.voxels[i] = error;
  }
  return errors;
}

template <class T>
Volume<T> halved(const Volume<T>& big) {
  const Extent3 old = big.geometry.shape;
  Volume<T> small{.geometry = big.geometry, .channels = 1, .voxels = {}};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    small.geometry.shape[axis] = (old[axis] + 1) / 2;
    small.geometry.spacing_mm[axis] *= 2;
  }
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t col = 0; col < 3; ++col) small.geometry.affine[4 * row + col] *= 2;
  }
  small.voxels.reserve(static_cast<std::size_t>(volume(small.geometry.shape)));
  for (std::int64_t z = 0; z < old[0]; z += 2) {
    for (std::int64_t y = 0; y < old[1]; y += 2) {
      for (std::int64_t x = 0; x < old[2]; x += 2) {
        small.voxels.push_back(big.voxels[static_cast<std::size_t>((z * old[1] + y) * old[2] + x)]);
      }
    }
  }
  return small;
}

template <class T>
VolumeAnswer answer(Volume<T> shown, std::string note) {
  while (volume(shown.geometry.shape) > kMostVoxels) {
    shown = halved(shown);
    note += note.empty() ? "halved" : ", halved";
  }
  shown.geometry.stored
      .reset();  // one affine, written as both forms: viewers disagree on which counts
  return {.bytes = written_bytes("voxnas-volume",
                                 ".nii.gz",
                                 std::int64_t{1} << 30,
                                 [&](const fs::path& file) { write_nifti(file, shown); }),
          .note = std::move(note)};
}

std::int64_t number_after(const std::string& layer, std::string_view prefix) {
  std::int64_t number = -1;
  const char* end = layer.data() + layer.size();
  const auto [stop, error] = std::from_chars(layer.data() + prefix.size(), end, number);
  return error == std::errc() && stop == end ? number : -1;
}

struct ErrorLayer {
  LabelMap map;
  std::string note;
};

ErrorLayer errors_of(LiveRun& run, const std::string& id, const std::string& label) {
  const DataSet set = data_of(run);
  const CaseFiles& files = case_of(set, id);
  const LabelMap reference = read_case_label(set, files);
  ErrorLayer layer;
  const LabelMap prediction = prediction_of(run, label, id, reference.geometry, layer.note);
  layer.map = error_map(reference, prediction, set.labels);
  return layer;
}

}  // namespace

Json cases_page(LiveRun& run) {
  const Json report = run.report();
  Json page = {{"labels", part(part(report, "data"), "labels")},
               {"delivered", part(report, "delivered")},
               {"channels", part(part(report, "data"), "channels")},
               {"layers", Json::array()},
               {"cases", Json::array()},
               {"problem", ""}};
  DataSet set;
  try {
    set = data_of(run);
    page["channels"] = set.channel_names;
    page["labels"] = set.labels.names;
  } catch (const Error& error) {
    page["problem"] = error.what();  // scores can be shown where the images are elsewhere
  }
  std::map<std::string, Json> cases;
  for (const char* label : kFinals) {
    const Json& trial = part(part(report, "final"), label);
    if (!trial.is_object()) continue;
    std::int64_t there = 0, scored = 0;
    for (const Json& c : part(trial, "cases")) {
      const std::string id = text_or(c, "id");
      Json& row = cases[id];
      row["id"] = id;
      row["image"] = std::ranges::find(set.training, id, &CaseFiles::id) != set.training.end();
      row["classes"][label] = part(c, "classes");
      row["scores"][label] = finite(case_dice(part(c, "classes")));
      std::error_code none;
      const bool file =
          fs::is_regular_file(RunFolder(run.folder()).predictions(label) / (id + ".nii.gz"), none);
      row["files"][label] = file;
      there += file;
      ++scored;
    }
    page["layers"].push_back(
        {{"label", label},
         {"files", there},
         {"reason", there == scored ? "" : "predictions were not kept, or were removed"}});
  }
  const std::string worst_by = text_or(report, "delivered");
  for (auto& [id, row] : cases) page["cases"].push_back(std::move(row));
  const auto score = [&](const Json& row) {
    return number_or(part(row, "scores"), worst_by.c_str(), std::numeric_limits<double>::max());
  };
  std::stable_sort(page["cases"].begin(), page["cases"].end(), [&](const Json& a, const Json& b) {
    return score(a) < score(b);
  });
  return page;
}

VolumeAnswer case_volume(LiveRun& run, const std::string& id, const std::string& layer) {
  if (layer.starts_with("error-")) {
    ErrorLayer errors = errors_of(run, id, layer.substr(6));
    return answer(std::move(errors.map), std::move(errors.note));
  }
  const DataSet set = data_of(run);
  const CaseFiles& files = case_of(set, id);
  if (layer == "reference") return answer(read_case_label(set, files), "");
  if (layer.starts_with("prediction-")) {
    const Geometry grid = read_case_label(set, files).geometry;
    std::string note;
    LabelMap map = prediction_of(run, layer.substr(11), id, grid, note);
    return answer(std::move(map), std::move(note));
  }
  const std::int64_t channel = layer.starts_with("image-") ? number_after(layer, "image-") : -1;
  NAS_CHECK_KIND(Usage,
                 channel >= 0 && channel < std::ssize(set.channel_names),
                 "expected image-0 to image-",
                 set.channel_names.size() - 1,
                 ", reference, prediction-... or error-..., found \"",
                 layer.substr(0, 64),
                 "\"");
  const Image image = read_case_image(set, files);
  const auto voxels = image.channel(channel);
  return answer(
      Image{.geometry = image.geometry, .channels = 1, .voxels = {voxels.begin(), voxels.end()}},
      "");
}

Json case_errors(LiveRun& run, const std::string& id, const std::string& label) {
  struct Part {
    std::int16_t kind = 0;
    std::vector<std::int64_t> voxels;
  };
  ErrorLayer layer = errors_of(run, id, label);
  LabelMap& map = layer.map;
  const auto [depth, height, width] = map.geometry.shape;
  std::vector<Part> parts;
  std::vector<std::int64_t> todo;
  for (std::int64_t start = 0; start < std::ssize(map.voxels); ++start) {
    const std::int16_t kind = map.voxels[static_cast<std::size_t>(start)];
    if (kind == 0) continue;
    Part part{.kind = kind, .voxels = {}};
    todo.assign(1, start);
    map.voxels[static_cast<std::size_t>(start)] = 0;
    while (!todo.empty()) {
      const std::int64_t at = todo.back();
      todo.pop_back();
      part.voxels.push_back(at);
      const std::int64_t x = at % width, y = at / width % height, z = at / (width * height);
      for (std::int64_t n = 0; n < 27; ++n) {
        const std::int64_t nx = x + n % 3 - 1, ny = y + n / 3 % 3 - 1, nz = z + n / 9 - 1;
        if (nx < 0 || ny < 0 || nz < 0 || nx >= width || ny >= height || nz >= depth) continue;
        const std::int64_t next = (nz * height + ny) * width + nx;
        std::int16_t& voxel = map.voxels[static_cast<std::size_t>(next)];
        if (voxel != kind) continue;
        voxel = 0;
        todo.push_back(next);
      }
    }
    parts.push_back(std::move(part));
  }
  std::ranges::stable_sort(
      parts, [](const Part& a, const Part& b) { return a.voxels.size() > b.voxels.size(); });
  const std::size_t all = parts.size();
  parts.resize(std::min<std::size_t>(all, 200));
  Json list = Json::array();
  for (const Part& part : parts) {
    const auto xyz = [&, w = width, h = height](std::int64_t at) {
      return std::array<double, 3>{static_cast<double>(at % w),
                                   static_cast<double>(at / w % h),
                                   static_cast<double>(at / (w * h))};
    };
    std::array<double, 3> centre{};
    for (const std::int64_t at : part.voxels) {
      const auto p = xyz(at);
      for (std::size_t i = 0; i < 3; ++i)
        centre[i] += p[i] / static_cast<double>(part.voxels.size());
    }
    const auto distance = [&](std::int64_t at) {
      const auto p = xyz(at);
      return std::hypot(p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]);
    };
    const auto nearest = xyz(*std::ranges::min_element(part.voxels, {}, distance));
    constexpr std::array<const char*, 4> kKinds{"", "missed", "extra", "wrong class"};
    list.push_back({{"kind", kKinds[static_cast<std::size_t>(part.kind)]},
                    {"voxels", part.voxels.size()},
                    {"at", nearest},
                    {"mm", place_of(map.geometry, nearest)}});
  }
  return {{"parts", std::move(list)}, {"count", all}, {"note", layer.note}};
}

std::string case_slice(LiveRun& run,
                       const std::string& id,
                       const std::string& prediction,
                       std::int64_t channel,
                       std::int64_t axis,
                       std::int64_t index) {
  NAS_CHECK_KIND(Usage, axis >= 0 && axis <= 2, "axis: expected 0 to 2, found ", axis);
  DataSet set = data_of(run);
  const CaseFiles& files = case_of(set, id);
  const Image image = read_case_image(set, files);
  const LabelMap reference = read_case_label(set, files);
  NAS_CHECK_KIND(Usage,
                 channel >= 0 && channel < image.channels,
                 "channel: expected 0 to ",
                 image.channels - 1,
                 ", found ",
                 channel);
  SliceOptions options{.channel = channel, .axis = static_cast<int>(axis)};
  options.index = index < 0 ? fullest_slice(reference, options.axis) : index;
  std::string note;
  if (prediction.empty()) return encode_png(render_slice(image, options, &reference));
  const LabelMap map = prediction_of(run, prediction, id, image.geometry, note);
  return encode_png(render_slice(image, options, &reference, &map));
}

}  // namespace nas
