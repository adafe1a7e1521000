// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/cgroup.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/imaging/case_folder.h"
#include "nas/imaging/case_names.h"
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

std::vector<fs::path> split_commas(const std::string& text) {
  std::vector<fs::path> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.emplace_back(part);
  return parts;
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

int run_predict(const PredictArguments& arguments) {
  choose_precision(arguments.options.precision, choose_device(arguments.options.device));
  NAS_CHECK_KIND(Usage,
                 arguments.options.step > 0 && arguments.options.step <= 1,
                 "--step: expected a share of the patch in (0, 1], got ",
                 arguments.options.step);
  const std::vector<Model> models = load_models(arguments.model);
  const Preprocessing& preprocessing = models.front().preprocessing;
  const auto channels = static_cast<int>(preprocessing.normalization.size());
  if (models.size() > 1) log_info(models.size(), " models; their mean probability decides");

  const bool folder = fs::is_directory(arguments.in);
  std::vector<FolderCase> cases;
  if (folder) {
    NAS_CHECK_KIND(Usage,
                   arguments.channels.empty(),
                   "--channels goes with a single case, but ",
                   arguments.in,
                   " is a folder");
    FolderCases found = cases_in_folder(arguments.in, static_cast<std::size_t>(channels));
    for (const std::string& note : found.notes) log_warning(note);
    cases = std::move(found.cases);
  } else {
    FolderCase one;
    one.images =
        fs::exists(arguments.in) ? std::vector<fs::path>{arguments.in} : split_commas(arguments.in);
    for (const std::string& more : arguments.channels) one.images.emplace_back(more);
    for (const fs::path& file : one.images) {
      NAS_CHECK(fs::is_regular_file(file),
                file.string(),
                ": expected an image file, found ",
                fs::exists(file) ? "something else" : "nothing");
    }
    one.id = nifti_stem(one.images.front());
    const auto parts = split_channel(one.id);
    if (parts && parts->second == 0 && (one.images.size() > 1 || channels == 1)) {
      one.id = parts->first;
    }
    cases.push_back(std::move(one));
  }

  const fs::path out = arguments.out;
  const bool out_is_file = is_nifti_name(out) && !fs::is_directory(out);
  NAS_CHECK_KIND(Usage,
                 !(folder && out_is_file),
                 "OUT: expected a folder, since IN is one, got ",
                 out.string());

  // A place that cannot be written is better found before the work than after it.
  const fs::path target = out_is_file ? fs::absolute(out).parent_path() : out;
  check_writable(target);
  create_folder(target);

  DataSet description;  // what the reader needs to know
  description.folder = folder ? fs::path(arguments.in) : fs::path(arguments.in).parent_path();
  description.name = "input";
  description.channel_names = preprocessing.channel_names;
  description.labels = preprocessing.labels;
  description.accept_misaligned = arguments.accept_misaligned;

  const std::int64_t total = memory_limit_bytes();
  std::int64_t largest = 0;
  std::string largest_id;
  OrientationNotes orientations(preprocessing.orientation);
  for (FolderCase& one : cases) {
    if (!one.problem.empty()) continue;
    try {
      std::int64_t found = 0;
      for (const fs::path& image : one.images) found += read_nifti_header(image).channels;
      NAS_CHECK(found == channels,
                one.images.front().string(),
                ": the model reads ",
                channels,
                " channels, found ",
                found,
                one.images.size() > 1 ? " in the files of this case" : "");
      const Geometry grid = read_nifti_header(one.images.front()).geometry;
      orientations.add(one.images.front(), grid);
      const std::int64_t bytes = predict_memory_bytes(models, grid, arguments.options);
      if (bytes > largest) {
        largest = bytes;
        largest_id = one.id;
      }
    } catch (const Error& error) {
      one.problem = error.what();
    }
  }
  orientations.tell();
  if (largest > 0) {
    log_info(cases.size(),
             cases.size() == 1 ? " case" : " cases",
             "; memory: about ",
             format_bytes(static_cast<double>(largest)),
             " at most (",
             largest_id,
             "); there are ",
             format_bytes(static_cast<double>(total)));
    if (largest > total) log_warning(largest_id, ": may need more memory than there is");
  }

  Json report = Json::array();
  std::vector<std::string> failures;
  for (const FolderCase& one : cases) {
    if (stop_requested()) {
      failures.push_back(one.id + ": stopped before it");
      continue;
    }
    const fs::path file = out_is_file ? out : out / (one.id + ".nii.gz");
    Json row{{"case", one.id}};
    try {
      NAS_CHECK(one.problem.empty(), one.problem);
      for (const fs::path& image : one.images) {
        NAS_CHECK_KIND(Usage,
                       !fs::exists(file) || !fs::equivalent(file, image),
                       file.string(),
                       ": the prediction would overwrite the image");
      }
      // No file says what it shows, so a wrong order must be visible.
      const bool file_each = one.images.size() == preprocessing.channel_names.size();
      for (std::size_t c = 0; file_each && channels > 1 && c < one.images.size(); ++c) {
        log_info(one.id,
                 ": ",
                 preprocessing.channel_names[c],
                 " is taken from ",
                 one.images[c].filename().string());
      }
      const auto start = std::chrono::steady_clock::now();
      LabelMap labels;
      {
        const Image image = read_case_image(description, {one.id, one.images, {}});
        std::vector<std::shared_ptr<const PreprocessedCase>> inputs;
        try {
          inputs = preprocess_for(models, image, arguments.options.threads);
        } catch (const Error& error) {
          fail(error.kind(), one.images.front().string(), ": ", error.what());
        }
        labels = predict_preprocessed(models, inputs, arguments.options);
      }
      write_nifti(file, labels);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      std::vector<std::int64_t> counts(preprocessing.labels.names.size(), 0);
      std::map<std::int16_t, std::int64_t> by_label;
      for (const std::int16_t label : labels.voxels) ++by_label[label];
      for (const auto& [label, voxels] : by_label) {
        if (label == 0) counts[0] = voxels;
        for (std::size_t k = 1; k < counts.size(); ++k) {
          if (preprocessing.labels.holds(static_cast<std::int64_t>(k) - 1, label))
            counts[k] += voxels;
        }
      }
      std::string found;
      for (std::size_t k = 1; k < counts.size(); ++k) {
        found += concat_text(k > 1 ? ", " : "", preprocessing.labels.names[k], " ", counts[k]);
      }
      log_info(
          one.id, ": ", file.string(), " (voxels: ", found, "; ", format_duration(seconds), ")");
      row["file"] = file.string();
      row["seconds"] = seconds;
      row["voxels"] = counts;
    } catch (const std::bad_alloc&) {
      failures.push_back(one.id + ": out of memory");
      row["error"] = "out of memory";
    } catch (const std::exception& error) {
      failures.push_back(one.id + ": " + error.what());
      row["error"] = error.what();
    }
    report.push_back(row);
  }
  if (arguments.json) {
    std::cout << Json{{"memory_bytes", largest}, {"cases", report}}.dump(2) << "\n";
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
                       "Model folder; several joined by commas, or a RUN with fold_0, fold_1, ...: "
                       "their mean probability decides")
            ->required();
        app.add_option("IN",
                       a->in,
                       "Image, folder of images (case.nii.gz, or case_0000.nii.gz, "
                       "case_0001.nii.gz, ...), or the "
                       "channels of one case joined by commas")
            ->required();
        app.add_option("OUT", a->out, "Folder for case.nii.gz, or the file to write for one case")
            ->required();
        app.add_option("--channels",
                       a->channels,
                       "Further channels of the case IN, in order, joined by commas")
            ->delimiter(',');
        app.add_flag("--mirror",
                     a->options.mirror,
                     "Average over the eight mirrored inputs (8 times the work)");
        app.add_option(
               "--step", a->options.step, "Distance of windows as a share of the patch, (0, 1]")
            ->check(CLI::Range(1e-3, 1.0));
        app.add_option("--batch", a->options.batch, "Windows at once")->check(CLI::Range(1, 1024));
        app.add_option("--device", a->options.device, "auto, cpu, cuda or cuda:N");
        app.add_option("--precision", a->options.precision, "auto, fp32, bf16, fp16");
        app.add_option("--threads", a->options.threads, "0: all processors")
            ->check(CLI::Range(0, 1024));
        app.add_flag("--accept-misaligned",
                     a->accept_misaligned,
                     "Take channels voxel by voxel whose headers disagree about spacing or place");
        app.add_flag("--json", a->json, "Report as JSON on stdout");
        return [a] { return run_predict(*a); };
      }};
}

}  // namespace nas
