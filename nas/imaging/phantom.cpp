// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/phantom.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr double kPi = 3.14159265358979323846;

/// A smooth random field: a sum of a few waves of low frequency. Coordinates are those of the body,
/// about [-1, 1].
class Waves {
 public:
  Waves(Rng rng, int count, double lowest, double highest, double amplitude) {
    for (int i = 0; i < count; ++i) {
      Wave wave;
      Vec3 direction{rng.normal(), rng.normal(), rng.normal()};
      const double norm = std::hypot(direction[0], direction[1], direction[2]) + 1e-9;
      const double frequency = rng.uniform(lowest, highest);
      for (std::size_t a = 0; a < 3; ++a) wave.k[a] = direction[a] / norm * frequency * kPi;
      wave.phase = rng.uniform(0, 2 * kPi);
      wave.amplitude = amplitude * rng.uniform(0.5, 1.0) / std::sqrt(static_cast<double>(count));
      waves_.push_back(wave);
    }
  }
  double operator()(const Vec3& p) const {
    double sum = 0;
    for (const Wave& w : waves_)
      sum += w.amplitude * std::sin(w.k[0] * p[0] + w.k[1] * p[1] + w.k[2] * p[2] + w.phase);
    return sum;
  }

 private:
  struct Wave {
    Vec3 k{};
    double phase = 0, amplitude = 0;
  };
  std::vector<Wave> waves_;
};

struct Ellipsoid {
  Vec3 center{}, radius{};
  /// Below 1 inside.
  double operator()(const Vec3& p) const {
    double sum = 0;
    for (std::size_t a = 0; a < 3; ++a)
      sum += (p[a] - center[a]) * (p[a] - center[a]) / (radius[a] * radius[a]);
    return std::sqrt(sum);
  }
};

/// 0 outside, 1 inside, a ramp of `width` at the surface (partial volume).
double soft_inside(double distance, double width) {
  return std::clamp((1 - distance) / width + 0.5, 0.0, 1.0);
}

/// Classes that are organs; the last class may be a lesion in them.
std::int64_t organ_count(const PhantomOptions& o) {
  return o.lesion_class ? o.classes - 1 : o.classes;
}

/// What is where at a point: the nearest organ (owner of the voxel where distance < 1) and shares
/// of body, organ, decoy and lesion, [0, 1].
struct Tissue {
  std::size_t nearest = 0;
  double distance = 0, in_body = 0, in_organ = 0, in_decoy = 0, in_lesion = 0;
};

struct Anatomy {
  std::vector<Ellipsoid> organs, decoys;
  Ellipsoid lesion;
  bool has_lesion = false;

  Tissue at(const Vec3& q, double ramp) const {
    const Ellipsoid body{{0, 0, 0}, {0.92, 0.92, 0.92}};
    Tissue t;
    t.distance = 1e9;
    for (std::size_t k = 0; k < organs.size(); ++k) {
      if (const double f = organs[k](q); f < t.distance) t.distance = f, t.nearest = k;
    }
    t.in_body = soft_inside(body(q), ramp);
    t.in_organ = soft_inside(t.distance, 2 * ramp);
    for (const Ellipsoid& e : decoys)
      t.in_decoy = std::max(t.in_decoy, soft_inside(e(q), 4 * ramp));
    t.in_lesion = has_lesion ? soft_inside(lesion(q), 4 * ramp) * t.in_organ : 0;
    return t;
  }
};

/// Organs sit on a ring around the body's axis, each overlapping the next; the nearer one owns a
/// voxel, so that neighbours touch along a common surface.
Anatomy draw_anatomy(const PhantomOptions& o, Rng& rng) {
  // Radii by organ unless all are alike: long, flat, ... each of about the volume of a ball.
  constexpr std::array<Vec3, 4> kForms{
      Vec3{1.3, 0.9, 0.85}, Vec3{0.75, 1.15, 1.15}, Vec3{0.9, 1.3, 0.85}, Vec3{1.15, 0.75, 1.15}};
  Anatomy out;
  const std::int64_t organs = organ_count(o);
  const Vec3 shift{rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)};
  const double turn = rng.uniform(-0.25, 0.25);
  const double ring = organs == 1 ? 0 : 0.26 + 0.02 * static_cast<double>(organs);
  const double reach =
      organs <= 2 ? 0.36
                  : std::min(0.36, 1.25 * ring * std::sin(kPi / static_cast<double>(organs)));
  for (std::int64_t k = 0; k < organs; ++k) {
    const double angle = 2 * kPi * static_cast<double>(k) / static_cast<double>(organs) + turn;
    Ellipsoid e;
    e.center = {shift[0] + 0.08 * rng.uniform(-1, 1),
                shift[1] + ring * std::cos(angle),
                shift[2] + ring * std::sin(angle)};
    for (std::size_t a = 0; a < 3; ++a) {
      e.radius[a] = reach * rng.uniform(0.85, 1.15);
      if (!o.alike) e.radius[a] *= kForms[static_cast<std::size_t>(k) % kForms.size()][a];
    }
    out.organs.push_back(e);
  }
  for (int tries = 0; out.decoys.size() < 5 && tries < 200; ++tries) {
    Ellipsoid e;
    for (double& c : e.center) c = rng.uniform(-0.75, 0.75);
    const double radius = rng.uniform(0.08, 0.14);
    e.radius = {radius, radius, radius};
    const double from_axis = std::hypot(e.center[0], e.center[1], e.center[2]);
    bool clear = from_axis < 0.78;
    for (const Ellipsoid& other : out.organs) clear = clear && other(e.center) > 1.6;
    if (clear) out.decoys.push_back(e);
  }
  out.has_lesion = rng.chance(0.5);
  const Ellipsoid& host = out.organs[static_cast<std::size_t>(rng.integer(0, organs))];
  for (std::size_t a = 0; a < 3; ++a) {
    out.lesion.center[a] = host.center[a] + 0.35 * host.radius[a] * rng.uniform(-1, 1);
    out.lesion.radius[a] = host.radius[a] * rng.uniform(0.35, 0.5);
  }
  return out;
}

/// Brightness of tissues as a share of the body's, by channel. It belongs to the data set, not to
/// the case: it is drawn from the seed alone.
struct Brightness {
  std::vector<std::vector<double>> organ;  // [channel][organ]
  std::vector<double> lesion;              // [channel]; a share of its organ's unless all are alike
  bool alike = false;

  double of(const Tissue& t, std::size_t channel) const {
    double value = 1 + (organ[channel][t.nearest] - 1) * t.in_organ;
    value += (organ[channel][0] - value) * t.in_decoy * (1 - t.in_organ);
    const double diseased = lesion[channel] * (alike ? 1 : organ[channel][t.nearest]);
    return value + (diseased - value) * t.in_lesion;
  }
};

Brightness draw_brightness(const PhantomOptions& o) {
  // Far enough apart that the bias field and the gain of a case do not turn one into another.
  constexpr std::array<double, 8> kLevels{1.45, 0.6, 1.9, 0.4, 2.5, 0.25, 3.2, 4.1};
  Rng contrast = Rng(o.seed).split("contrast");
  Brightness out;
  out.alike = o.alike;
  for (std::int64_t c = 0; c < o.channels; ++c) {
    std::vector<double> row;
    const double base = contrast.uniform(1.28, 1.38);
    for (std::int64_t k = 0; k < organ_count(o); ++k) {
      const double level = o.alike ? base : kLevels[static_cast<std::size_t>(k + c) % 8];
      row.push_back(level + contrast.uniform(-0.04, 0.04));
    }
    out.organ.push_back(row);
    out.lesion.push_back(contrast.uniform(0.70, 0.80));
  }
  return out;
}

/// The texture of an organ, by turns fine and coarse; none where all organs are alike.
Waves organ_grain(Rng rng, bool alike, std::size_t organ) {
  if (alike) return {rng, 0, 1, 1, 0};
  return organ % 2 == 0 ? Waves(rng, 8, 7, 10, 0.15) : Waves(rng, 6, 2, 4, 0.15);
}

Geometry draw_geometry(const PhantomOptions& o, Rng& rng) {
  Geometry geometry;
  for (std::size_t a = 0; a < 3; ++a) {
    const double edge =
        static_cast<double>(o.size[a]) * rng.uniform(1 - o.size_jitter, 1 + o.size_jitter);
    geometry.shape[a] = std::max<std::int64_t>(8, std::llround(edge));
    geometry.spacing_mm[a] = o.spacing_mm[a];
  }
  geometry.affine = {o.spacing_mm[2], 0, 0, 0, 0, o.spacing_mm[1], 0, 0, 0, 0, o.spacing_mm[0], 0};
  for (std::size_t a = 0; a < 3; ++a) {  // the scanner's zero in the middle
    geometry.affine[4 * a + 3] =
        -0.5 * static_cast<double>(geometry.shape[2 - a] - 1) * o.spacing_mm[2 - a];
  }
  return geometry;
}

void check_options(const PhantomOptions& o) {
  const auto check = [](bool good, const auto&... parts) {
    if (!good) fail(ErrorKind::Usage, "phantom: ", parts...);
  };
  check(!o.modality.empty(), "modality: expected a name such as MRI or CT, found none");
  check(o.cases >= 1 && o.cases <= 100000, "cases: expected 1 to 100000, found ", o.cases);
  check(o.test_cases >= 0 && o.test_cases <= 100000,
        "test cases: expected 0 to 100000, found ",
        o.test_cases);
  for (const auto edge : o.size)
    check(edge >= 8 && edge <= 2048, "size: expected edges of 8 to 2048 voxels, found ", edge);
  for (const auto mm : o.spacing_mm)
    check(mm > 0.001 && mm < 1000, "spacing: expected 0.001 to 1000 mm, found ", mm);
  check(o.size_jitter >= 0 && o.size_jitter <= 0.5,
        "size jitter: expected 0 to 0.5, found ",
        o.size_jitter);
  check(o.channels >= 1 && o.channels <= 8, "channels: expected 1 to 8, found ", o.channels);
  check(o.classes >= 1 && o.classes <= 8, "classes: expected 1 to 8, found ", o.classes);
  check(!o.lesion_class || o.classes >= 2,
        "a lesion class needs at least 2 classes, found ",
        o.classes);
  check(o.noise >= 0 && o.noise <= 1, "noise: expected 0 to 1, found ", o.noise);
  check(o.layout == "msd" || o.layout == "nnunet",
        "layout: expected msd or nnunet, found \"",
        o.layout,
        "\"");
}

std::string case_name(std::int64_t number) {
  std::string digits = std::to_string(number);
  return "phantom_" + std::string(digits.size() < 3 ? 3 - digits.size() : 0, '0') + digits;
}

}  // namespace

PhantomCase make_phantom_case(const PhantomOptions& o, std::int64_t index) {
  check_options(o);
  const Rng root = Rng(o.seed).split("phantom", index);
  Rng rng = root.split("shape");
  const Geometry geometry = draw_geometry(o, rng);
  const Anatomy anatomy = draw_anatomy(o, rng);
  const Brightness brightness = draw_brightness(o);
  const std::array<Waves, 3> warp{Waves(root.split("warp", 0), 4, 0.6, 1.6, 0.09),
                                  Waves(root.split("warp", 1), 4, 0.6, 1.6, 0.09),
                                  Waves(root.split("warp", 2), 4, 0.6, 1.6, 0.09)};
  const auto voxels = static_cast<std::size_t>(volume(geometry.shape));
  PhantomCase out;
  out.label.geometry = geometry;
  out.label.voxels.assign(voxels, 0);
  out.image.geometry = geometry;
  out.image.channels = o.channels;
  out.image.voxels.assign(voxels * static_cast<std::size_t>(o.channels), 0);

  std::vector<Waves> texture, bias, grain;
  std::vector<Rng> noise;
  std::vector<double> gain;
  for (std::int64_t c = 0; c < o.channels; ++c) {
    texture.emplace_back(root.split("texture", c), 12, 4, 9, 0.08);
    bias.emplace_back(root.split("bias", c), 3, 0.2, 0.7, 0.22);
    noise.push_back(root.split("noise", c));
    gain.push_back(root.split("gain", c).uniform(0.85, 1.15));
  }
  for (std::size_t k = 0; k < anatomy.organs.size(); ++k)
    grain.push_back(organ_grain(root.split("grain", static_cast<std::int64_t>(k)), o.alike, k));
  const double ramp =
      2.0 / static_cast<double>(*std::min_element(geometry.shape.begin(), geometry.shape.end()));

  std::size_t i = 0;
  for (std::int64_t d = 0; d < geometry.shape[0]; ++d) {
    for (std::int64_t h = 0; h < geometry.shape[1]; ++h) {
      for (std::int64_t w = 0; w < geometry.shape[2]; ++w, ++i) {
        Vec3 p{};
        const std::array<std::int64_t, 3> at{d, h, w};
        for (std::size_t a = 0; a < 3; ++a) {
          p[a] = (2 * static_cast<double>(at[a]) + 1) / static_cast<double>(geometry.shape[a]) - 1;
        }
        const Vec3 q{p[0] + warp[0](p), p[1] + warp[1](p), p[2] + warp[2](p)};
        const Tissue tissue = anatomy.at(q, ramp);
        if (tissue.distance < 1) {
          const bool lesion_here = o.lesion_class && anatomy.has_lesion && anatomy.lesion(q) < 1;
          out.label.voxels[i] = static_cast<std::int16_t>(
              lesion_here ? o.classes : static_cast<std::int64_t>(tissue.nearest) + 1);
        }
        const double grained = 1 + grain[tissue.nearest](p) * tissue.in_organ;
        for (std::int64_t c = 0; c < o.channels; ++c) {
          const auto channel = static_cast<std::size_t>(c);
          double value = brightness.of(tissue, channel) * grained;
          value *=
              tissue.in_body * (1 + texture[channel](p)) * (1 + bias[channel](p)) * gain[channel];
          value += o.noise * noise[channel].normal();
          out.image.voxels[channel * voxels + i] =
              o.modality == "CT" ? static_cast<float>(std::nearbyint(1000 * value - 1000))
                                 : static_cast<float>(100 * value);
        }
      }
    }
  }
  return out;
}

void write_phantom(const fs::path& folder, const PhantomOptions& o) {
  check_options(o);
  std::error_code code;
  if (fs::exists(folder, code) && !(fs::is_directory(folder, code) && fs::is_empty(folder, code))) {
    fail(ErrorKind::Usage,
         folder.string(),
         ": expected a new or empty folder, found something in its place");
  }
  create_folder(folder);
  const std::string name =
      o.name.empty() ? fs::absolute(folder).lexically_normal().filename().string() : o.name;
  const bool nnunet = o.layout == "nnunet";

  OrderedJson json;
  OrderedJson channel_names, labels;
  for (std::int64_t c = 0; c < o.channels; ++c) {
    channel_names[std::to_string(c)] =
        o.channels == 1 || o.modality == "CT" ? o.modality : concat_text(o.modality, c + 1);
  }
  for (std::int64_t k = 0; k <= o.classes; ++k) {
    const std::string label = k == 0                             ? "background"
                              : o.lesion_class && k == o.classes ? "lesion"
                                                                 : concat_text("organ_", k);
    if (nnunet) {
      labels[label] = k;
    } else {
      labels[std::to_string(k)] = label;
    }
  }
  json["name"] = name;
  json["description"] = concat_text("Made-up organs, seed ", o.seed);
  if (!nnunet) json["tensorImageSize"] = o.channels == 1 ? "3D" : "4D";
  json[nnunet ? "channel_names" : "modality"] = channel_names;
  json["labels"] = labels;
  json["numTraining"] = o.cases;
  if (nnunet) json["file_ending"] = ".nii.gz";
  if (!nnunet) {
    json["numTest"] = o.test_cases;
    json["training"] = OrderedJson::array();
    json["test"] = OrderedJson::array();
  }

  const auto write_image = [&](const fs::path& file, const Image& image) {
    o.modality == "CT" ? write_nifti_int16(file, image) : write_nifti(file, image);
  };
  for (std::int64_t i = 0; i < o.cases + o.test_cases; ++i) {
    const bool test = i >= o.cases;
    const PhantomCase one = make_phantom_case(o, i);
    const std::string id = case_name(i + 1);
    const fs::path images = folder / (test ? "imagesTs" : "imagesTr");
    if (nnunet) {
      for (std::int64_t c = 0; c < o.channels; ++c) {
        const auto part = one.image.channel(c);
        Image single{
            .geometry = one.image.geometry, .channels = 1, .voxels = {part.begin(), part.end()}};
        write_image(images / concat_text(id, "_000", c, ".nii.gz"), single);
      }
    } else {
      write_image(images / (id + ".nii.gz"), one.image);
      if (test) {
        json["test"].push_back("./imagesTs/" + id + ".nii.gz");
      } else {
        json["training"].push_back(
            {{"image", "./imagesTr/" + id + ".nii.gz"}, {"label", "./labelsTr/" + id + ".nii.gz"}});
      }
    }
    if (!test) write_nifti(folder / "labelsTr" / (id + ".nii.gz"), one.label);
  }
  // Last, so that a folder with a dataset.json is complete.
  write_file_atomic(folder / "dataset.json", json.dump(2) + "\n");
}

}  // namespace nas
