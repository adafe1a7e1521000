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
std::shared_ptr<const ScriptFile> opened(const std::string& file) {
  static std::mutex mutex;
  static std::string last_file;
  static fs::file_time_type last_time;
  static std::shared_ptr<const ScriptFile> last;
  const std::lock_guard<std::mutex> lock(mutex);
  std::error_code missing;
  const fs::file_time_type time = fs::last_write_time(file, missing);
  if (last == nullptr || file != last_file || time != last_time || missing) {
    last = std::make_shared<const ScriptFile>(file);
    last_file = file;
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

}  // namespace

bool is_loss_file(const std::string& loss) { return loss.ends_with(".ts"); }

at::Tensor script_loss(const std::vector<at::Tensor>& outputs,
                       const at::Tensor& target,
                       const TrainOptions& options) {
  const std::shared_ptr<const ScriptFile> script = opened(options.loss);
  const std::vector<double> weights =
      deep_supervision_weights(options.deep_supervision ? outputs.size() : 1);
  const at::Tensor described = crop_target(target, outputs.front().sizes().slice(2));
  at::Tensor sum;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    const at::Tensor here = resize_target(described, outputs[i].sizes().slice(2));
    const at::Tensor term = loss_of(*script, outputs[i], here) * weights[i];
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

std::string loss_file_hash(const TrainOptions& options) {
  if (!is_loss_file(options.loss)) return "";
  opened(options.loss);  // says what is wrong with it
  return hash_file(options.loss);
}

}  // namespace nas
