// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/cgroup.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/imaging/nifti.h"
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
  bool json = false;
  PredictOptions options;
};

struct PredictCase {
  std::string id;
  std::vector<fs::path> images;
  std::string problem;  // why it cannot be predicted, "" if it can
};

/// "case" and 3 of "case_0003"; -1 if the name does not end in _dddd.
std::pair<std::string, int> split_channel(const std::string& stem) {
  const std::size_t n = stem.size();
  if (n < 6 || stem[n - 5] != '_') return {stem, -1};
  const std::string digits = stem.substr(n - 4);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return {stem, -1};
  }
  return {stem.substr(0, n - 5), std::stoi(digits)};
}

/// The cases of a folder. Files case_0000, case_0001, ... are the channels of one case (nnU-Net);
/// any other NIfTI file is a case of its own (MSD). What is neither is told, not skipped in
/// silence.
std::vector<PredictCase> cases_of_folder(const fs::path& folder, int channels) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".")) continue;
    if (entry.is_regular_file() && is_nifti_name(entry.path())) {
      files.push_back(entry.path());
    } else {
      log_warning(entry.path().string(), ": not a NIfTI file, left out");
    }
  }
  if (files.empty()) {
    const bool data_set =
        fs::is_directory(folder / "imagesTs") || fs::is_directory(folder / "imagesTr");
    fail(ErrorKind::Input,
         folder.string(),
         ": expected .nii or .nii.gz files, found none",
         data_set ? "; give its folder imagesTs or imagesTr" : "");
  }
  std::sort(files.begin(), files.end());
  std::map<std::string, std::map<int, fs::path>> groups;
  for (const fs::path& file : files) {
    const auto [stem, channel] = split_channel(nifti_stem(file));
    if (channel >= 0) groups[stem].emplace(channel, file);
  }
  std::map<std::string, PredictCase> cases;
  const auto add = [&](PredictCase one) {
    const std::string id = one.id;
    if (!cases.emplace(id, std::move(one)).second) {
      cases[id].problem = "two files claim this case (" + id + ".nii and " + id + ".nii.gz?)";
    }
  };
  for (const fs::path& file : files) {
    const std::string stem = nifti_stem(file);
    const auto [id, channel] = split_channel(stem);
    if (channel < 0 ||
        !groups[id].contains(0)) {  // a number without a channel 0 is part of the name
      add({stem, {file}, ""});
      continue;
    }
    if (channel != 0) {
      if (groups[id].at(channel) != file)
        cases[id].problem = file.string() + ": a second file for this channel";
      continue;
    }
    PredictCase one{id, {}, ""};
    for (const auto& [number, path] : groups[id]) {
      if (number != static_cast<int>(one.images.size())) break;
      one.images.push_back(path);
    }
    const auto found = groups[id].size();
    if (static_cast<int>(found) != channels || one.images.size() != found) {
      one.problem = concat_text("the model needs ",
                                channels,
                                " channels (",
                                id,
                                "_0000 and on), found ",
                                found,
                                " files, ",
                                one.images.size(),
                                " of them without a gap");
      // One file may still hold all channels.
      if (found == 1) one.problem.clear();
    }
    add(std::move(one));
  }
  std::vector<PredictCase> result;
  for (auto& [id, one] : cases) result.push_back(std::move(one));
  return result;
}

std::vector<fs::path> split_commas(const std::string& text) {
  std::vector<fs::path> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.emplace_back(part);
  return parts;
}

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
  std::vector<PredictCase> cases;
  if (folder) {
    NAS_CHECK_KIND(Usage,
                   arguments.channels.empty(),
                   "--channels goes with a single case, but ",
                   arguments.in,
                   " is a folder");
    cases = cases_of_folder(arguments.in, channels);
  } else {
    PredictCase one;
    one.images =
        fs::exists(arguments.in) ? std::vector<fs::path>{arguments.in} : split_commas(arguments.in);
    for (const std::string& more : arguments.channels) one.images.emplace_back(more);
    for (const fs::path& file : one.images) {
      NAS_CHECK(fs::is_regular_file(file),
                file.string(),
                ": expected an image file, found ",
                fs::exists(file) ? "something else" : "nothing");
    }
    const auto [stem, channel] = split_channel(nifti_stem(one.images.front()));
    one.id = channel == 0 && one.images.size() > 1 ? stem : nifti_stem(one.images.front());
    if (channel == 0 && channels == 1) one.id = stem;
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
  description.label_names = preprocessing.label_names;

  const std::int64_t total = memory_limit_bytes();
  std::int64_t largest = 0;
  std::string largest_id;
  for (PredictCase& one : cases) {
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
      const std::int64_t bytes = predict_memory_bytes(
          models, read_nifti_header(one.images.front()).geometry, arguments.options);
      if (bytes > largest) {
        largest = bytes;
        largest_id = one.id;
      }
    } catch (const Error& error) {
      one.problem = error.what();
    }
  }
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
  for (const PredictCase& one : cases) {
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
      std::vector<std::int64_t> counts(preprocessing.label_names.size(), 0);
      for (const std::int16_t label : labels.voxels) ++counts[static_cast<std::size_t>(label)];
      std::string found;
      for (std::size_t k = 1; k < counts.size(); ++k) {
        found += concat_text(k > 1 ? ", " : "", preprocessing.label_names[k], " ", counts[k]);
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
        app.add_flag("--json", a->json, "Report as JSON on stdout");
        return [a] { return run_predict(*a); };
      }};
}

}  // namespace nas
