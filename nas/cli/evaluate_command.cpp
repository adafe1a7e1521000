// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/stop.h"
#include "nas/core/threads.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/metrics.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAllClasses = "all classes";  // the row of the mean over the classes' means

struct EvaluateArguments {
  std::string prediction, reference, output;
  int labels = 0;
  double tolerance_mm = 1;
  bool json = false, accept_misaligned = false;
  int threads = 0;
};

struct Pair {
  std::string id;
  fs::path prediction, reference;
};

/// NIfTI files of a folder by case name.
std::map<std::string, fs::path> files_of(const fs::path& folder) {
  std::map<std::string, fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file() || !is_nifti_name(entry.path())) continue;
    const auto [place, added] = files.emplace(nifti_stem(entry.path()), entry.path());
    NAS_CHECK(added, entry.path().string(), ": the same case as ", place->second.string());
  }
  NAS_CHECK(!files.empty(), folder.string(), ": expected .nii or .nii.gz files, found none");
  return files;
}

/// The data set of the dataset.json beside the reference folder, if there is one.
std::optional<DataSet> data_set_beside(const fs::path& reference) {
  const fs::path place = fs::absolute(reference).lexically_normal();
  for (const fs::path& folder : {place, place.parent_path(), place.parent_path().parent_path()}) {
    if (!fs::is_regular_file(folder / "dataset.json")) continue;
    try {
      return open_data_set(folder);
    } catch (const Error& error) {
      log_warning("its label names are not used: ", error.what());
      return std::nullopt;
    }
  }
  return std::nullopt;
}

/// Where `predictions` has the one of a reference: by its name, else by the names that dataset.json
/// knows for the case (BTCV's label0001 is of img0001).
std::map<std::string, fs::path>::const_iterator find_prediction(
    const std::map<std::string, fs::path>& predictions,
    const std::string& id,
    const fs::path& reference,
    const std::optional<DataSet>& data) {
  auto found = predictions.find(id);
  if (found != predictions.end() || !data) return found;
  const fs::path wanted = fs::absolute(reference).lexically_normal();
  for (const CaseFiles& one : data->training) {
    if (one.label != wanted) continue;
    for (const std::string& name : prediction_names(one)) {
      if (found == predictions.end()) found = predictions.find(name);
    }
  }
  return found;
}

std::string cell(const std::optional<double>& value, const char* format = "%8.4f") {
  char text[32];
  if (!value) return std::string(5, ' ') + "-  ";
  std::snprintf(text, sizeof text, format, *value);
  return text;
}

void print_table(const std::vector<CaseMetrics>& cases, const std::vector<std::string>& names) {
  const std::span<const MetricInfo> metrics = metric_table();
  std::size_t case_width = 8;
  std::size_t label_width = std::string(kAllClasses).size();
  for (const CaseMetrics& one : cases) case_width = std::max(case_width, one.id.size());
  for (const std::string& name : names) label_width = std::max(label_width, name.size());
  const auto line = [&](const std::string& what, const std::string& label, auto&& cell_of) {
    std::cerr << what << std::string(case_width + 2 - what.size(), ' ') << label
              << std::string(label_width + 2 - label.size(), ' ');
    for (const MetricInfo& metric : metrics) {
      const std::string text = cell_of(metric);
      const std::size_t width = std::max<std::size_t>(8, std::string(metric.title).size() + 2);
      std::cerr << std::string(width - std::min(width, text.size()), ' ') << text;
    }
    std::cerr << "\n";
  };
  line("case", "label", [](const MetricInfo& metric) { return std::string(metric.title); });
  for (const CaseMetrics& one : cases) {
    for (std::size_t k = 0; k < one.classes.size(); ++k) {
      line(k == 0 ? one.id : "", names[k + 1], [&](const MetricInfo& metric) {
        return cell(one.classes[k].*metric.value);
      });
    }
  }
  const MetricMeans means = mean_metrics(cases);
  for (std::size_t k = 0; k < means.classes.size(); ++k) {
    line(k == 0 ? std::string("mean") : "", names[k + 1], [&](const MetricInfo& metric) {
      return cell(means.classes[k].*metric.value);
    });
  }
  line("", kAllClasses, [&](const MetricInfo& metric) {
    return cell(means.foreground.*metric.value);
  });
}

/// The prediction on the reference's grid: as it is, or turned where it is stored in another axis
/// order. \throws Error(Shape|Input) with both files if the grids do not agree and `accept` is
/// false.
LabelMap onto_reference(LabelMap predicted,
                        const Geometry& reference,
                        const Pair& pair,
                        bool accept) {
  if (same_grid(predicted.geometry, reference)) return predicted;
  const Turn turn = turn_onto(predicted.geometry, reference);
  if (same_grid(turned(predicted.geometry, turn), reference)) {
    log_info(pair.id,
             ": prediction stored as ",
             axis_codes(predicted.geometry),
             ", reference as ",
             axis_codes(reference),
             ": reoriented to be compared in the world");
    return turned(std::move(predicted), turn);
  }
  NAS_CHECK_KIND(Shape,
                 predicted.geometry.shape == reference.shape,
                 pair.prediction.string(),
                 ": prediction of ",
                 to_text(predicted.geometry.shape),
                 " voxels, reference ",
                 pair.reference.string(),
                 " of ",
                 to_text(reference.shape));
  const double apart = grid_distance_mm(predicted.geometry, reference);
  NAS_CHECK(accept,
            pair.prediction.string(),
            ": expected the grid of ",
            pair.reference.string(),
            " to ",
            kGridTolerance,
            " voxels, found voxels up to ",
            apart,
            " mm apart; --accept-misaligned compares voxel by voxel");
  log_warning(pair.id,
              ": prediction and reference lie up to ",
              apart,
              " mm apart; compared voxel by voxel, as asked");
  return predicted;
}

int run_evaluate(const EvaluateArguments& arguments) {
  const fs::path prediction = arguments.prediction;
  const fs::path reference = arguments.reference;
  for (const fs::path& path : {prediction, reference}) {
    NAS_CHECK(fs::exists(path), path.string(), ": expected a file or folder, found nothing");
  }
  const std::optional<DataSet> data = data_set_beside(reference);
  std::vector<Pair> pairs;
  std::vector<UnscoredCase> unscored;
  if (fs::is_directory(reference)) {
    NAS_CHECK_KIND(Usage,
                   fs::is_directory(prediction),
                   "PRED: expected a folder, since REF is one, got ",
                   prediction.string());
    std::map<std::string, fs::path> predictions = files_of(prediction);
    for (const auto& [id, file] : files_of(reference)) {
      const auto found = find_prediction(predictions, id, file, data);
      if (found == predictions.end()) {
        unscored.push_back({id, concat_text("no prediction in ", prediction.string()), true});
        continue;
      }
      pairs.push_back({id, found->second, file});
      predictions.erase(found);
    }
    for (const auto& [id, file] : predictions)
      log_warning(file.string(), ": no reference of this name, not scored");
  } else {
    fs::path file = prediction;
    if (fs::is_directory(prediction)) file = files_of(prediction)[nifti_stem(reference)];
    NAS_CHECK(!file.empty(), prediction.string(), ": no prediction for ", reference.string());
    pairs.push_back({nifti_stem(reference), file, reference});
  }

  LabelScheme labels;
  if (arguments.labels == 0 && data) labels = data->labels;
  std::vector<std::string>& names = labels.names;
  std::vector<std::optional<CaseMetrics>> results(pairs.size());
  std::mutex mutex;
  const auto each = [&](const std::function<void(std::size_t)>& body) {
    parallel_for(
        static_cast<std::int64_t>(pairs.size()),
        [&](std::int64_t i) { body(static_cast<std::size_t>(i)); },
        arguments.threads);
  };
  std::int64_t classes = arguments.labels;
  if (!names.empty()) classes = labels.foreground();
  if (classes == 0) {
    // Nobody says how many labels there are: the largest one found, over all files.
    each([&](std::size_t i) {
      for (const fs::path& file : {pairs[i].prediction, pairs[i].reference}) {
        std::int64_t largest = 0;
        try {
          for (const std::int16_t label : read_nifti_label(file).voxels)
            largest = std::max<std::int64_t>(largest, label);
        } catch (const Error&) {
          continue;  // told below
        }
        const std::lock_guard lock(mutex);
        classes = std::max(classes, largest);
      }
    });
    classes = std::max<std::int64_t>(classes, 1);
  }
  if (names.empty()) {
    names.push_back("background");
    for (std::int64_t k = 1; k <= classes; ++k) names.push_back(concat_text("label ", k));
  }

  {
    Progress progress("evaluating", static_cast<std::int64_t>(pairs.size()), "cases");
    each([&](std::size_t i) {
      if (stop_requested()) return;
      try {
        const LabelMap truth = read_nifti_label(pairs[i].reference);
        const LabelMap predicted = onto_reference(read_nifti_label(pairs[i].prediction),
                                                  truth.geometry,
                                                  pairs[i],
                                                  arguments.accept_misaligned);
        for (const auto* map : {&predicted, &truth}) {
          // A prediction says something of every voxel; a reference may leave some out.
          const std::int64_t most = (map == &truth ? labels.values() : labels.labels()) - 1;
          for (const std::int16_t label : map->voxels) {
            NAS_CHECK(label >= 0 && label <= most,
                      map == &truth ? pairs[i].reference.string() : pairs[i].prediction.string(),
                      ": expected labels 0 to ",
                      most,
                      ", found ",
                      label);
          }
        }
        CaseMetrics metrics =
            compute_metrics(predicted, truth, labels, {.nsd_tolerance_mm = arguments.tolerance_mm});
        metrics.id = pairs[i].id;
        results[i] = std::move(metrics);
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        unscored.push_back({pairs[i].id, error.what(), false});
      }
      progress.advance(1, pairs[i].id);
    });
  }
  NAS_CHECK_KIND(Stopped, !stop_requested(), "stopped while evaluating");

  std::vector<CaseMetrics> cases;
  for (auto& one : results) {
    if (one) cases.push_back(std::move(*one));
  }
  std::ranges::sort(unscored, {}, &UnscoredCase::id);
  const Json json = metrics_json(cases, names, unscored);
  if (!arguments.output.empty()) write_json(arguments.output, json);
  if (arguments.json) {
    std::cout << json.dump(2) << "\n";
  } else if (!cases.empty()) {
    print_table(cases, names);
  }
  for (const UnscoredCase& one : unscored)
    log_line(LogLevel::Error, concat_text(one.id, ": ", one.reason));
  return unscored.empty() ? 0 : 1;
}

}  // namespace

Command evaluate_command() {
  return {
      .name = "evaluate", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<EvaluateArguments>();
        app.add_option("PRED", a->prediction, "Segmentation to score, or a folder of them")
            ->required();
        app.add_option("REF",
                       a->reference,
                       "Reference label file, or a folder of them; files of one name belong "
                       "together")
            ->required();
        app.add_option("--labels",
                       a->labels,
                       "Number of labels beside the background. Left out: what the dataset.json "
                       "beside REF says, else the largest label found")
            ->check(CLI::Range(1, 32767));
        app.add_option("--tolerance",
                       a->tolerance_mm,
                       "Distance in mm within which surfaces count as the same (for the "
                       "surface Dice, NSD)")
            ->check(CLI::Range(0.001, 1e6))
            ->capture_default_str();
        add_accept_misaligned(app,
                              a->accept_misaligned,
                              "Compare voxel by voxel where a segmentation and its reference "
                              "disagree about position");
        add_threads(app, a->threads);
        app.add_flag("--json", a->json, "Print the metrics as JSON on stdout instead of a table");
        app.add_option("-o,--output", a->output, "Also write the metrics to this JSON file");
        return [a] { return run_evaluate(*a); };
      }};
}

}  // namespace nas
