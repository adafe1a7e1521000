// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nas/cli/command.h"
#include "nas/core/cgroup.h"
#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/paths.h"
#include "nas/core/quantity.h"
#include "nas/core/stop.h"
#include "nas/imaging/case_folder.h"
#include "nas/imaging/case_names.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"
#include "training/inference/predict.h"
#include "training/inference/predict_memory.h"
#include "training/model/device.h"
#include "training/model/model_folder.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

struct PredictArguments {
  std::string model, in, out;
  std::vector<std::string> channels;
  bool json = false, accept_misaligned = false;
  PredictOptions options;
};

/// Where results go.
struct Target {
  fs::path out;
  bool is_file = false;
  fs::path file_of(const std::string& id) const { return is_file ? out : out / (id + ".nii.gz"); }
};

/// A place that cannot be written is better found before the work than after it.
Target check_target(const fs::path& out, bool from_folder) {
  Target target{out, is_nifti_name(out) && !fs::is_directory(out)};
  NAS_CHECK_KIND(Usage,
                 !(from_folder && target.is_file),
                 "OUT: expected a folder, since IN is one, got ",
                 out.string());
  NAS_CHECK_KIND(Usage,
                 fs::is_directory(out) || !is_foreign_image_name(out),
                 "OUT: expected a folder or a file named .nii or .nii.gz, got ",
                 out.string(),
                 "; this format is not written");
  const fs::path folder = target.is_file ? fs::absolute(out).parent_path() : out;
  check_writable(folder);
  create_folder(folder);
  return target;
}

/// The one case of files named on the command line.
FolderCase case_of_files(const PredictArguments& arguments, std::size_t channels) {
  FolderCase one;
  one.images = split_paths(arguments.in);
  for (const std::string& text : arguments.channels) {
    for (const fs::path& file : split_paths(text)) one.images.push_back(file);
  }
  NAS_CHECK_KIND(Usage, !one.images.empty(), "IN: expected an image or a folder of images");
  for (const fs::path& file : one.images) {
    NAS_CHECK(fs::is_regular_file(file),
              file.string(),
              ": expected an image file, found ",
              what_lies_at(file));
  }
  one.id = nifti_stem(one.images.front());
  const auto parts = split_channel(one.id);
  if (parts && parts->second == 0 && (one.images.size() > 1 || channels == 1)) {
    one.id = parts->first;
  }
  return one;
}

std::vector<FolderCase> find_cases(const PredictArguments& arguments, std::size_t channels) {
  if (!fs::is_directory(arguments.in)) return {case_of_files(arguments, channels)};
  NAS_CHECK_KIND(Usage,
                 arguments.channels.empty(),
                 "--channels goes with a single case, but ",
                 arguments.in,
                 " is a folder");
  FolderCases found = cases_in_folder(arguments.in, channels);
  for (const std::string& note : found.notes) log_warning(note);
  return std::move(found.cases);
}

/// How the images of a run lie against the model's.
class OrientationNotes {
 public:
  explicit OrientationNotes(std::string models) : models_(std::move(models)) {}

  void add(const fs::path& file, const Geometry& grid) {
    const std::string codes = axis_codes(grid);
    if (codes != models_) ++others_[codes];
    if (!grid.oriented() && unsaid_++ == 0) first_unsaid_ = file;
  }

  void tell() const {
    if (models_.empty()) {
      log_info(
          "the model says no orientation of its training images: images are used as they are "
          "stored");
      return;
    }
    if (unsaid_ > 0) {
      log_warning(first_unsaid_.string(),
                  unsaid_ > 1 ? concat_text(" and ", unsaid_ - 1, " more") : "",
                  ": no orientation said (neither qform nor sform), taken as RAS; the model's "
                  "images are ",
                  models_,
                  ": check that left is left");
    }
    std::string found;
    for (const auto& [codes, count] : others_) {
      found += concat_text(found.empty() ? "" : ", ", count, " ", codes);
    }
    if (found.empty()) return;
    log_info("stored otherwise than the model's images (",
             models_,
             "): ",
             found,
             "; turned for prediction, the result is on the image's own grid");
  }

 private:
  std::string models_;
  std::map<std::string, std::int64_t> others_;  // codes -> images
  std::int64_t unsaid_ = 0;
  fs::path first_unsaid_;
};

/// Looks at the headers: marks cases that the models cannot read, and forecasts the memory of the
/// largest. \returns bytes.
std::int64_t check_headers(std::vector<FolderCase>& cases,
                           const std::vector<Model>& models,
                           const PredictOptions& options) {
  const std::size_t channels = models.front().preprocessing.normalization.size();
  std::int64_t largest = 0;
  std::string largest_id;
  OrientationNotes orientations(models.front().preprocessing.orientation);
  for (FolderCase& one : cases) {
    if (!one.problem.empty()) continue;
    try {
      std::int64_t found = 0;
      for (const fs::path& image : one.images) found += read_nifti_header(image).channels;
      NAS_CHECK(found == static_cast<std::int64_t>(channels),
                one.images.front().string(),
                ": the model reads ",
                channels,
                channels == 1 ? " channel, found " : " channels, found ",
                found,
                one.images.size() > 1 ? " in the files of this case" : "");
      const Geometry grid = read_nifti_header(one.images.front()).geometry;
      orientations.add(one.images.front(), grid);
      const std::int64_t bytes = predict_memory_bytes(models, grid, options);
      if (bytes > largest) {
        largest = bytes;
        largest_id = one.id;
      }
    } catch (const std::exception& error) {
      one.problem = exception_text(error);
    }
  }
  orientations.tell();
  if (largest == 0) return 0;
  const std::int64_t total = memory_limit_bytes();
  log_info(cases.size(),
           cases.size() == 1 ? " case" : " cases",
           "; memory: about ",
           format_bytes(static_cast<double>(largest)),
           " at most (",
           largest_id,
           "); there are ",
           format_bytes(static_cast<double>(total)));
  if (largest > total) log_warning(largest_id, ": may need more memory than there is");
  return largest;
}

/// Names do not stand in the files, so the user is shown what was taken for what.
Json tell_channels(const FolderCase& one, const std::vector<std::string>& names) {
  Json taken = Json::object();
  std::string text;
  for (std::size_t c = 0; c < names.size(); ++c) {
    const fs::path& file = one.images[one.images.size() == 1 ? 0 : c];
    const std::string where =
        file.filename().string() + (one.images.size() == 1 ? "[" + std::to_string(c) + "]" : "");
    text += concat_text(c == 0 ? "" : ", ", names[c], " from ", where);
    taken[names[c]] = file.string();
  }
  log_info(one.id, ": ", text);
  return taken;
}

/// An image without any contrast is refused where it is read; a channel without is told here.
void tell_flat_channels(const Image& image,
                        const FolderCase& one,
                        const std::vector<std::string>& names) {
  for (std::int64_t c = 0; image.channels > 1 && c < image.channels; ++c) {
    const auto [low, high] = std::ranges::minmax_element(image.channel(c));
    if (*low != *high) continue;
    const auto i = static_cast<std::size_t>(c);
    log_warning(one.images[one.images.size() == 1 ? 0 : i].string(),
                ": channel ",
                names[i],
                " has one value everywhere; check that it is not missing");
  }
}

/// Segments one case and writes it. \returns what is told of it.
Json segment(const FolderCase& one,
             const fs::path& file,
             const std::vector<Model>& models,
             const PredictArguments& arguments) {
  const PredictOptions& options = arguments.options;
  const Preprocessing& preprocessing = models.front().preprocessing;
  Json row{{"case", one.id}};
  NAS_CHECK(one.problem.empty(), one.problem);
  for (const fs::path& image : one.images) {
    NAS_CHECK_KIND(Usage,
                   !fs::exists(file) || !fs::equivalent(file, image),
                   file.string(),
                   ": the prediction would overwrite the image");
  }
  if (preprocessing.channel_names.size() > 1) {
    row["channels"] = tell_channels(one, preprocessing.channel_names);
  }
  DataSet description;  // what the reader needs to know
  description.folder = one.images.front().parent_path();
  description.name = "input";
  description.channel_names = preprocessing.channel_names;
  description.labels = preprocessing.labels;
  description.accept_misaligned = arguments.accept_misaligned;

  const auto start = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<const PreprocessedCase>> inputs;
  {
    const Image image = read_case_image(description, {one.id, one.images, {}});
    tell_flat_channels(image, one, preprocessing.channel_names);
    try {
      inputs = preprocess_for(models, image, options.threads);
    } catch (const Error& error) {
      fail(error.kind(), one.images.front().string(), ": ", error.what());
    }
  }
  const LabelMap labels = predict_preprocessed(models, inputs, options);
  write_nifti(file, labels);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<std::int64_t> counts(preprocessing.labels.names.size(), 0);
  std::map<std::int16_t, std::int64_t> by_label;
  for (const std::int16_t label : labels.voxels) ++by_label[label];
  for (const auto& [label, voxels] : by_label) {
    if (label == 0) counts[0] = voxels;
    for (std::size_t k = 1; k < counts.size(); ++k) {
      if (preprocessing.labels.holds(static_cast<std::int64_t>(k) - 1, label)) counts[k] += voxels;
    }
  }
  std::string found;
  for (std::size_t k = 1; k < counts.size(); ++k) {
    found += concat_text(k > 1 ? ", " : "", preprocessing.labels.names[k], " ", counts[k]);
  }
  log_info(one.id, ": ", file.string(), " (voxels: ", found, "; ", format_duration(seconds), ")");
  row["file"] = file.string();
  row["seconds"] = seconds;
  row["voxels"] = counts;
  return row;
}

int run_predict(const PredictArguments& arguments) {
  choose_precision(arguments.options.precision, choose_device(arguments.options.device));
  check_options(arguments.options);
  const std::vector<Model> models = load_models(arguments.model);
  if (arguments.options.mirror) check_mirrored(models, arguments.model);
  if (models.size() > 1) log_info(models.size(), " models; their mean probability decides");
  const std::size_t channels = models.front().preprocessing.normalization.size();
  std::vector<FolderCase> cases = find_cases(arguments, channels);
  const Target target = check_target(arguments.out, fs::is_directory(arguments.in));
  const std::int64_t memory = check_headers(cases, models, arguments.options);

  Json report = Json::array();
  std::vector<std::string> failures;
  for (const FolderCase& one : cases) {
    if (stop_requested()) {
      failures.push_back(one.id + ": stopped before it");
      continue;
    }
    try {
      report.push_back(segment(one, target.file_of(one.id), models, arguments));
    } catch (const std::exception& error) {
      failures.push_back(one.id + ": " + exception_text(error));
      report.push_back(Json{{"case", one.id}, {"error", exception_text(error)}});
    }
  }
  if (arguments.json) {
    std::cout << Json{{"memory_bytes", memory}, {"cases", report}}.dump(2) << "\n";
  }
  for (const std::string& failure : failures) log_line(LogLevel::Error, failure);
  if (!failures.empty()) {
    log_line(LogLevel::Error, concat_text(failures.size(), " of ", cases.size(), " cases failed"));
  }
  return failures.empty() ? 0 : 1;
}

}  // namespace

Command predict_command() {
  return {
      .name = "predict", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<PredictArguments>();
        a->options.show_progress = true;
        app.add_option("MODEL",
                       a->model,
                       "Model folder. Several, joined by commas, or a run with fold_0, fold_1, ... "
                       "are averaged")
            ->required();
        app.add_option("IN",
                       a->in,
                       "Image, or folder of images: case.nii.gz, or case_0000.nii.gz, "
                       "case_0001.nii.gz, ... where a case has several channels. The channels of "
                       "one case may also be joined by commas")
            ->required();
        app.add_option("OUT",
                       a->out,
                       "Folder to write a segmentation case.nii.gz per case to, or the file to "
                       "write for a single case")
            ->required();
        app.add_option("--channels",
                       a->channels,
                       "Further channels of the case IN, in the model's order, joined by commas");
        app.add_flag("--mirror",
                     a->options.mirror,
                     "Average over the eight mirrored images: slower by eight times, sometimes "
                     "more accurate; only for models that were trained with mirrored images");
        app.add_option("--step",
                       a->options.step,
                       "How far the window moves, as a share of its size: smaller is slower and "
                       "smoother")
            ->check(CLI::Range(1e-3, 1.0))
            ->capture_default_str();
        app.add_option(
               "--batch", a->options.batch, "Windows computed at once: more need more memory")
            ->check(CLI::Range(1, 1024))
            ->capture_default_str();
        add_device(app, a->options.device, a->options.precision);
        add_threads(app, a->options.threads);
        add_accept_misaligned(app,
                              a->accept_misaligned,
                              "Go on where the channels of a case disagree about voxel size or "
                              "position: they are laid on each other voxel by voxel");
        app.add_flag("--json", a->json, "Also print what was done as JSON on stdout");
        return [a] { return run_predict(*a); };
      }};
}

}  // namespace nas
