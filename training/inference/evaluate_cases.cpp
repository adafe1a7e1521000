// SPDX-License-Identifier: Apache-2.0
#include "training/inference/evaluate_cases.h"

#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/progress.h"
#include "nas/imaging/nifti.h"

namespace nas {

namespace fs = std::filesystem;

std::vector<CaseMetrics> evaluate_cases(Model& model,
                                        const DataSet& data,
                                        const std::vector<std::string>& ids,
                                        const PredictOptions& options,
                                        const fs::path& save_folder,
                                        bool show_progress) {
  check_options(options);
  const std::vector<Model> models{model};
  struct Loaded {
    std::vector<std::shared_ptr<const PreprocessedCase>> inputs;
    LabelMap reference;
  };
  // Each on its image's own grid; the model turns what it has to.
  DataSet as_stored = data;
  as_stored.orientation.clear();
  const auto load = [&](std::size_t i) {
    const CaseFiles& files = as_stored.find(ids[i]);
    NAS_CHECK(!files.label.empty(), "case ", files.id, ": cannot be scored, it has no label file");
    Loaded loaded;
    loaded.inputs = preprocess_for(models, read_case_image(as_stored, files), 1);
    loaded.reference = read_case_label(as_stored, files);
    return loaded;
  };
  const LabelScheme& labels = model.preprocessing.labels;
  PredictOptions quiet = options;
  quiet.show_progress = false;
  std::optional<Progress> progress;
  if (show_progress) progress.emplace("evaluating", static_cast<std::int64_t>(ids.size()), "cases");

  std::vector<CaseMetrics> results(ids.size());
  std::future<Loaded> next;
  std::future<void> scoring;
  if (!ids.empty()) next = std::async(std::launch::async, load, std::size_t{0});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Loaded loaded = next.get();
    if (i + 1 < ids.size()) next = std::async(std::launch::async, load, i + 1);
    LabelMap prediction = predict_preprocessed(models, loaded.inputs, quiet);
    loaded.inputs.clear();
    if (scoring.valid()) scoring.get();
    scoring = std::async(std::launch::async,
                         [&results,
                          &save_folder,
                          &ids,
                          i,
                          &labels,
                          predicted = std::move(prediction),
                          reference = std::move(loaded.reference)]() {
                           results[i] = compute_metrics(predicted, reference, labels);
                           results[i].id = ids[i];
                           if (!save_folder.empty())
                             write_nifti(save_folder / (ids[i] + ".nii.gz"), predicted);
                         });
    if (progress) progress->advance(1, ids[i]);
  }
  if (scoring.valid()) scoring.get();
  return results;
}

}  // namespace nas
