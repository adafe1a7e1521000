// SPDX-License-Identifier: Apache-2.0
#include "training/fit/script_loss.h"

#include <filesystem>
#include <memory>
#include <mutex>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "training/fit/losses.h"
#include "training/model/script_file.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// The file, which stays open: every step asks for it. A loss has nothing that is trained.
std::shared_ptr<const ScriptFile> opened(const TrainOptions& options) {
  const std::string &file = options.loss, &settings = options.loss_settings.json;
  static std::mutex mutex;
  static std::string last_file, last_settings;
  static fs::file_time_type last_time;
  static std::shared_ptr<const ScriptFile> last;
  const std::lock_guard<std::mutex> lock(mutex);
  std::error_code missing;
  const fs::file_time_type time = fs::last_write_time(file, missing);
  if (last == nullptr || file != last_file || settings != last_settings || time != last_time ||
      missing) {
    last = std::make_shared<const ScriptFile>(file, "", settings);
    last_file = file;
    last_settings = settings;
    last_time = time;
  }
  return last;
}

at::Tensor loss_of(const ScriptFile& script, const at::Tensor& logits, const at::Tensor& target) {
  const bool regions = target.dim() == 5;
  NAS_CHECK(regions ? target.size(1) == logits.size(1) : target.ge(0).all().item<bool>(),
            script.file().string(),
            ": a loss of one's own knows nothing of ignored voxels, but the data set has some");
  const at::Tensor given = (regions ? target : target.unsqueeze(1)).to(at::kFloat);
  const at::Tensor loss = script.run({logits.to(at::kFloat), given}, true, 0);
  NAS_CHECK(loss.numel() == 1,
            script.file().string(),
            ": expected a scalar loss, found a tensor of sizes ",
            loss.sizes());
  return loss.reshape({});
}

/// \throws Error(Input).
void probe_with(const ScriptFile& script, std::int64_t classes, bool regions) {
  constexpr std::int64_t kSide = 4, kPatches = 2;
  const std::int64_t voxels = kPatches * kSide * kSide * kSide;
  const at::AutoGradMode gradients(true);
  const at::Tensor logits = at::linspace(-1, 1, voxels * classes)
                                .reshape({kPatches, classes, kSide, kSide, kSide})
                                .set_requires_grad(true);
  const at::Tensor labels =
      at::arange(voxels, at::kLong).remainder(classes).reshape({kPatches, kSide, kSide, kSide});
  const at::Tensor target =
      regions ? at::one_hot(labels, classes).permute({0, 4, 1, 2, 3}).contiguous() : labels;
  const at::Tensor loss = loss_of(script, logits, target);
  const std::string file = script.file().string();
  NAS_CHECK(loss.isfinite().item<bool>(),
            file,
            ": expected a finite loss of logits ",
            logits.sizes(),
            " between -1 and 1, found ",
            loss.item<double>());
  NAS_CHECK(loss.requires_grad(), file, ": its loss does not depend on the logits");
  loss.backward();
  NAS_CHECK(logits.grad().isfinite().all().item<bool>(),
            file,
            ": the gradient of its loss is not finite for logits between -1 and 1");
}

}  // namespace

bool is_loss_file(const std::string& loss) { return loss.ends_with(".ts"); }

at::Tensor script_loss(const std::vector<at::Tensor>& outputs,
                       const at::Tensor& target,
                       const TrainOptions& options) {
  const std::shared_ptr<const ScriptFile> script = opened(options);
  return sum_over_outputs(outputs,
                          target,
                          options.deep_supervision,
                          [&](const at::Tensor& logits, const at::Tensor& here) {
                            return loss_of(*script, logits, here);
                          });
}

void probe_loss_file(const TrainOptions& options,
                     std::int64_t classes,
                     std::optional<bool> regions) {
  if (!is_loss_file(options.loss)) return;
  const std::shared_ptr<const ScriptFile> script = opened(options);
  try {
    probe_with(*script, classes, regions.value_or(false));
  } catch (const Error&) {
    if (regions.has_value()) throw;
    try {
      probe_with(*script, classes, true);
      return;
    } catch (const Error&) {  // what it says of labels is told
    }
    throw;
  }
}

std::string loss_file_hash(const TrainOptions& options) {
  if (!is_loss_file(options.loss)) return "";
  opened(options);  // says what is wrong with it
  return hash_file(options.loss);
}

}  // namespace nas
