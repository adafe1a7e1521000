// SPDX-License-Identifier: Apache-2.0
#include "training/fit/fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/rng.h"
#include "nas/core/threads.h"
#include "nas/network/output_region.h"
#include "training/data/augment.h"
#include "training/data/patches.h"
#include "training/data/tensorboard.h"
#include "training/fit/losses.h"
#include "training/fit/optimizer.h"
#include "training/kernels/kernels.h"
#include "training/model/device.h"

namespace nas {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// ---------------------------------------------------------------- data

/// What sample `sample` of step `step` is: a function of the seed and these two numbers alone. The
/// rules of choose_patch hold for the part of the patch that the network's output describes, so
/// that every voxel of a case can be learnt from.
struct SampleRecipe {
  PatchChoice choice;
  AugmentPlan plan;
};

SampleRecipe draw_sample(const std::vector<const CachedCase*>& cases,
                         const TrainOptions& options,
                         const OutputRegion& region,
                         std::int64_t step,
                         std::int64_t sample) {
  const Rng random(options.seed);
  const AugmentOptions augment{.strength = options.augmentation, .mirror = options.mirror};
  SampleRecipe recipe;
  recipe.choice = choose_patch(cases,
                               volume(region.size) == 0 ? options.patch : region.size,
                               options.batch,
                               sample,
                               options.foreground_fraction,
                               random.split("patch", step, sample));
  for (std::size_t a = 0; a < 3; ++a) recipe.choice.begin[a] -= region.begin[a];
  recipe.plan = draw_augmentation(augment,
                                  options.patch,
                                  cases.front()->channels,
                                  random.split("augment", step, sample),
                                  is_anisotropic_patch(options.patch));
  return recipe;
}

Batch empty_batch(const TrainOptions& options, std::int64_t channels, const at::Device& device) {
  const auto [d, h, w] = options.patch;
  const at::TensorOptions place(device);
  return {at::empty({options.batch, channels, d, h, w}, place.dtype(at::kFloat)),
          at::empty({options.batch, d, h, w}, place.dtype(at::kShort))};
}

}  // namespace

Batch make_batch(const std::vector<const CachedCase*>& cases,
                 const TrainOptions& options,
                 std::int64_t step,
                 const OutputRegion& region) {
  Batch batch = empty_batch(options, cases.front()->channels, at::kCPU);
  for (std::int64_t sample = 0; sample < options.batch; ++sample) {
    const SampleRecipe recipe = draw_sample(cases, options, region, step, sample);
    make_sample(*cases[static_cast<std::size_t>(recipe.choice.case_index)],
                recipe.choice,
                options.patch,
                recipe.plan,
                batch.image[sample].data_ptr<float>(),
                batch.target[sample].data_ptr<std::int16_t>());
  }
  return batch;
}

at::Tensor training_loss(const std::vector<at::Tensor>& outputs,
                         const at::Tensor& target,
                         const TrainOptions& options) {
  return segmentation_loss(outputs, target, options.deep_supervision, loss_options(options));
}

namespace {

/// Batches prepared ahead by threads, at most `kAhead` beyond the one that is asked for.
class PrefetchingSource : public BatchSource {
 public:
  PrefetchingSource(std::vector<const CachedCase*> cases,
                    const TrainOptions& options,
                    const OutputRegion& region,
                    std::int64_t first_step,
                    int workers)
      : cases_(std::move(cases)),
        options_(options),
        region_(region),
        wanted_(first_step),
        claimed_(first_step) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }

  ~PrefetchingSource() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Batch next() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return error_ || ready_.contains(wanted_); });
    if (error_) std::rethrow_exception(error_);
    Batch batch = std::move(ready_.at(wanted_));
    ready_.erase(wanted_++);
    changed_.notify_all();
    return batch;
  }

 private:
  static constexpr std::int64_t kAhead = 4;

  void work() {
    try {
      for (;;) {
        std::int64_t step = 0;
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock,
                        [this] { return stopping_ || error_ || claimed_ < wanted_ + kAhead; });
          if (stopping_ || error_ || claimed_ >= options_.steps) return;
          step = claimed_++;
        }
        Batch batch = make_batch(cases_, options_, step, region_);
        const std::lock_guard lock(mutex_);
        ready_.emplace(step, std::move(batch));
        changed_.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      changed_.notify_all();
    }
  }

  const std::vector<const CachedCase*> cases_;
  const TrainOptions options_;
  const OutputRegion region_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, Batch> ready_;
  std::int64_t wanted_, claimed_;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

/// The whole data set in device memory; samples are made there by the CUDA launchers.
class DeviceSource : public BatchSource {
 public:
  DeviceSource(std::vector<const CachedCase*> cases,
               const TrainOptions& options,
               const OutputRegion& region,
               std::int64_t first_step,
               const at::Device& device)
      : cases_(std::move(cases)),
        options_(options),
        region_(region),
        device_(device),
        step_(first_step) {
    for (const CachedCase* source : cases_) {
      const auto [d, h, w] = source->shape;
      const std::vector<std::int64_t> image_shape{source->channels, d, h, w};
      images_.push_back(
          torch::from_blob(const_cast<float*>(source->image), image_shape, at::kFloat).to(device));
      labels_.push_back(
          torch::from_blob(const_cast<std::int16_t*>(source->label), {d, h, w}, at::kShort)
              .to(device));
    }
    scratch_ = at::empty({static_cast<std::int64_t>(device_scratch_bytes(options.patch))},
                         at::TensorOptions(device).dtype(at::kByte));
  }

  /// Bytes that the cases would take on the device.
  static double bytes(const std::vector<const CachedCase*>& cases) {
    double sum = 0;
    for (const CachedCase* source : cases) {
      sum += static_cast<double>(volume(source->shape)) *
             static_cast<double>(4 * source->channels + 2);
    }
    return sum;
  }

  Batch next() override {
    const c10::DeviceGuard guard(device_);
    Batch batch = empty_batch(options_, cases_.front()->channels, device_);
    for (std::int64_t sample = 0; sample < options_.batch; ++sample) {
      const SampleRecipe recipe = draw_sample(cases_, options_, region_, step_, sample);
      const auto i = static_cast<std::size_t>(recipe.choice.case_index);
      const DeviceCase source{cases_[i]->shape,
                              cases_[i]->channels,
                              images_[i].const_data_ptr<float>(),
                              labels_[i].const_data_ptr<std::int16_t>()};
      // LibTorch works on the default stream here; so do the launchers, and order is kept without
      // waiting.
      make_sample_cuda(source,
                       recipe.choice,
                       options_.patch,
                       recipe.plan,
                       batch.image[sample].data_ptr<float>(),
                       batch.target[sample].data_ptr<std::int16_t>(),
                       scratch_.data_ptr(),
                       /*stream=*/nullptr);
    }
    ++step_;
    return batch;
  }

 private:
  const std::vector<const CachedCase*> cases_;
  const TrainOptions options_;
  const OutputRegion region_;
  const at::Device device_;
  std::int64_t step_;
  std::vector<at::Tensor> images_, labels_;
  at::Tensor scratch_;
};

}  // namespace

std::unique_ptr<BatchSource> make_source(const std::vector<const CachedCase*>& cases,
                                         const TrainOptions& options,
                                         std::int64_t first_step,
                                         const at::Device& device,
                                         const OutputRegion& region) {
  if (device.is_cuda() && kernels::cuda::compiled()) {
    const auto [free, total] = c10::getDeviceAllocator(at::kCUDA)->getMemoryInfo(device.index());
    (void)total;
    if (DeviceSource::bytes(cases) < 0.4 * static_cast<double>(free)) {
      return std::make_unique<DeviceSource>(cases, options, region, first_step, device);
    }
  }
  // On the CPU the processors belong to the arithmetic: one thread keeps ahead. A GPU needs all of
  // them.
  const int workers = device.is_cpu() ? 1 : std::max(1, processor_count() - 1);
  return std::make_unique<PrefetchingSource>(cases, options, region, first_step, workers);
}

namespace {

// ---------------------------------------------------------------- the step

/// Everything that changes from step to step.
struct Trainer {
  Trainer(GraphModule& net, const TrainOptions& o, const at::Device& d)
      : network(net),
        options(o),
        device(d),
        type(choose_precision(o.precision, d)),
        optimizer(net->parameters(), o) {
    if (o.average_decay > 0) average.emplace(net->parameters());
    if (type == at::kHalf) scaler.emplace(d);
  }

  at::Tensor default_loss(const Batch& batch) {
    std::vector<at::Tensor> outputs = network->forward(batch.image);
    first_output = outputs.front().detach();
    return training_loss(outputs, batch.target, options);
  }

  /// One training step. \returns the loss; `skipped` tells whether the update was left out.
  double step(const Batch& batch, std::int64_t index, const FitHooks& hooks, bool& skipped) {
    optimizer.zero_grad();
    network->set_dropout_stream(Rng(options.seed).split("dropout", index).key());

    // ---------------- forward ----------------
    at::Tensor loss;
    {
      const Autocast autocast(device, type);
      loss = hooks.loss ? hooks.loss(batch) : default_loss(batch);
    }
    const double value = loss.item<double>();
    if (!std::isfinite(value)) return value;

    // ---------------- backward ----------------
    (scaler ? scaler->scale(loss) : loss).backward();

    // ---------------- update ----------------
    bool finite = !scaler || scaler->unscale(optimizer.parameters());
    finite = finite && clip_gradients(optimizer, options.clip_norm);
    if (finite) optimizer.step(scheduled_learning_rate(options, index));
    if (scaler) scaler->update();
    if (finite && average) average->update(scheduled_average_decay(options, index));
    skipped = !finite;
    return value;
  }

  /// Every tensor that a checkpoint holds.
  NamedTensors state() const {
    NamedTensors all;
    for (const auto& item : network->named_parameters())
      all.emplace_back("weights." + item.key(), item.value());
    for (const auto& item : network->named_buffers())
      all.emplace_back("weights." + item.key(), item.value());
    const auto append = [&](const std::string& prefix, const NamedTensors& part) {
      for (const auto& [name, tensor] : part) all.emplace_back(prefix + name, tensor);
    };
    append("optimizer.", optimizer.state());
    if (average) append("average.", average->state());
    if (scaler) append("scaler.", scaler->state());
    return all;
  }

  GraphModule& network;
  const TrainOptions& options;
  const at::Device device;
  const at::ScalarType type;
  Optimizer optimizer;
  std::optional<WeightAverage> average;
  std::optional<GradScaler> scaler;
  at::Tensor first_output;  // of the last default loss
};

// ---------------------------------------------------------------- checkpoints

constexpr int kCheckpointVersion = 1;

at::Tensor bytes_tensor(const std::string& text) {
  return torch::from_blob(
             const_cast<char*>(text.data()), {static_cast<std::int64_t>(text.size())}, at::kByte)
      .clone();
}

std::string bytes_text(const at::Tensor& tensor) {
  const at::Tensor t = tensor.to(at::kCPU).contiguous();
  return {static_cast<const char*>(t.const_data_ptr()), static_cast<std::size_t>(t.numel())};
}

/// What must agree between a checkpoint and the training that goes on from it.
Json training_identity(const GraphModule& network,
                       const CaseCache& data,
                       const std::vector<std::string>& ids,
                       const TrainOptions& options) {
  Hasher cases;
  cases.add(data.key());
  for (const std::string& id : ids) cases.add(id);
  return {
      {"options", to_json(options)}, {"graph", graph_id(network->graph())}, {"data", cases.hex()}};
}

/// A dictionary of tensors as Python's torch.load reads it; text lies in byte tensors ("meta" is
/// JSON).
void write_checkpoint(const std::filesystem::path& file,
                      const Trainer& trainer,
                      const Json& identity,
                      const FitReport& report,
                      const FitHooks& hooks) {
  c10::Dict<std::string, at::Tensor> dict;
  for (const auto& [name, tensor] : trainer.state())
    dict.insert(name, tensor.detach().to(at::kCPU));
  dict.insert("losses", torch::tensor(report.losses, at::kDouble));
  const Json meta = {{"format", "voxnas.checkpoint"},
                     {"version", kCheckpointVersion},
                     {"step", report.steps},
                     {"skipped", report.skipped},
                     {"training", identity}};
  dict.insert("meta", bytes_tensor(meta.dump()));
  if (hooks.save_state) dict.insert("hooks", bytes_tensor(hooks.save_state()));
  const std::vector<char> pickled = torch::pickle_save(dict);
  write_file_atomic(file, {pickled.data(), pickled.size()});
}

/// Brings `trainer` and `report` back to a checkpoint.
void read_checkpoint(const std::filesystem::path& file,
                     Trainer& trainer,
                     const Json& identity,
                     FitReport& report,
                     const FitHooks& hooks) {
  const std::string where = file.string();
  const std::string content = read_file(file, std::int64_t{1} << 40);
  std::map<std::string, at::Tensor> tensors;
  try {
    const c10::IValue value = torch::pickle_load({content.begin(), content.end()});
    for (const auto& item : value.toGenericDict()) {
      tensors[item.key().toStringRef()] = item.value().toTensor();
    }
  } catch (const std::exception& error) {
    fail(ErrorKind::Input, where, ": not a readable checkpoint: ", error.what());
  }
  const auto tensor = [&](const std::string& name) -> const at::Tensor& {
    NAS_CHECK(tensors.contains(name), where, ": tensor ", name, " is missing");
    return tensors.at(name);
  };
  const Json meta_json = parse_json(bytes_text(tensor("meta")), where + ": meta");
  const JsonReader meta(meta_json, where);
  NAS_CHECK(meta.at("version").integer() == kCheckpointVersion,
            where,
            ": expected checkpoint version ",
            kCheckpointVersion,
            ", found ",
            meta.at("version").integer());
  for (const auto& [key, expected] : identity.items()) {
    const Json& found = meta.at("training").at(key).json();
    NAS_CHECK(found == expected,
              where,
              ": the checkpoint is of another training (",
              key,
              " differ: expected ",
              expected.dump(),
              ", found ",
              found.dump(),
              "); use another run folder or the same settings");
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, target] : trainer.state()) {
    const at::Tensor& stored = tensor(name);
    NAS_CHECK(stored.sizes() == target.sizes(),
              where,
              ": tensor ",
              name,
              ": expected shape ",
              target.sizes(),
              ", found ",
              stored.sizes());
    at::Tensor(target).copy_(stored);
  }
  report.steps = meta.at("step").integer(0, INT64_MAX);
  report.skipped = meta.at("skipped").integer(0, INT64_MAX);
  const at::Tensor losses = tensor("losses").to(at::kDouble).contiguous();
  report.losses.assign(losses.const_data_ptr<double>(),
                       losses.const_data_ptr<double>() + losses.numel());
  if (hooks.load_state) hooks.load_state(bytes_text(tensor("hooks")));
}

// ---------------------------------------------------------------- what a run shows

/// TensorBoard scalars of the steps.
class StepLog {
 public:
  StepLog(const FitFiles& files, const Trainer& trainer) : trainer_(trainer) {
    if (files.tensorboard && !files.folder.empty()) writer_.emplace(files.folder, wall_time());
  }

  void add(const StepInfo& info, const Batch& batch) {
    if (!writer_) return;
    const double now = wall_time();
    const auto scalar = [&](const char* tag, double value) {
      writer_->scalar(tag, value, info.step, now);
    };
    scalar("train/loss", info.loss);
    scalar("train/learning_rate", info.learning_rate);
    scalar("time/step_seconds", info.step_seconds);
    scalar("time/wait_seconds", info.wait_seconds);
    if (trainer_.first_output.defined() && info.step % kDiceInterval == 0) {
      const at::Tensor predicted = trainer_.first_output.argmax(1);
      const at::Tensor target = crop_target(batch.target, predicted.sizes().slice(1));
      for (std::int64_t k = 1; k < trainer_.first_output.size(1); ++k) {
        const at::Tensor p = predicted.eq(k), t = target.eq(k);
        const double sum = (p.sum() + t.sum()).item<double>();
        if (sum > 0) {
          scalar(("train/dice_" + std::to_string(k)).c_str(),
                 2 * p.logical_and(t).sum().item<double>() / sum);
        }
      }
    }
    if (info.step % kDiceInterval == 0) writer_->flush();
  }

  void finish() {
    if (writer_) writer_->flush();
  }

 private:
  static constexpr std::int64_t kDiceInterval = 10;  // steps between the Dice of a training batch
  const Trainer& trainer_;
  std::optional<EventWriter> writer_;
};

std::string progress_note(double smooth_loss, double wait_share, std::int64_t skipped) {
  char text[96];
  std::snprintf(
      text, sizeof text, "loss %.3f, waiting for data %.0f %%", smooth_loss, 100 * wait_share);
  std::string note = text;
  if (skipped > 0) note += ", " + std::to_string(skipped) + " steps skipped";
  return note;
}

}  // namespace

// ---------------------------------------------------------------- the loop

FitReport fit(GraphModule& network,
              const CaseCache& data,
              const std::vector<std::string>& train_ids,
              const TrainOptions& options,
              const FitFiles& files,
              const FitHooks& hooks) {
  check_train_options(options);
  NAS_CHECK_KIND(Usage, !train_ids.empty(), "fit: no training cases");
  NAS_CHECK_KIND(
      Usage, !hooks.save_state == !hooks.load_state, "fit: save_state and load_state go together");
  std::vector<const CachedCase*> cases;
  for (const std::string& id : train_ids) cases.push_back(&data.find(id));
  // Refuses a patch that the network cannot take.
  const OutputRegion region = output_region(network->graph(), options.patch);

  const Clock::time_point start = Clock::now();
  const at::Device device = choose_device(options.device);
  const c10::DeviceGuard device_guard(device);
  set_up_compute(options.threads, device);
  network->to(device);
  network->train();
  Trainer trainer(network, options, device);
  FitReport report;

  const std::filesystem::path checkpoint =
      files.folder.empty() ? "" : files.folder / "checkpoint.pt";
  const Json identity = training_identity(network, data, train_ids, options);
  if (!checkpoint.empty() && files.resume && std::filesystem::exists(checkpoint)) {
    read_checkpoint(checkpoint, trainer, identity, report, hooks);
    log_info(files.label, ": goes on from step ", report.steps);
  }
  std::int64_t saved_step = report.steps;
  Clock::time_point saved_at = Clock::now();
  const auto save = [&] {
    if (checkpoint.empty()) return;
    write_checkpoint(checkpoint, trainer, identity, report, hooks);
    saved_step = report.steps;
    saved_at = Clock::now();
  };

  report.status = "done";
  if (report.steps < options.steps) {
    const std::unique_ptr<BatchSource> source =
        make_source(cases, options, report.steps, device, region);
    StepLog log(files, trainer);
    std::optional<Progress> progress;
    if (files.show_progress) progress.emplace(files.label, options.steps, "step");
    double smooth_loss = 0, smooth_weight = 0;

    while (report.steps < options.steps) {
      if (stop_requested() || (hooks.should_stop && hooks.should_stop())) {
        report.status = "stopped";
        break;
      }
      const Clock::time_point step_start = Clock::now();
      if (hooks.before_step) hooks.before_step(report.steps);
      const Clock::time_point wait_start = Clock::now();
      Batch batch = source->next();
      StepInfo info;
      info.wait_seconds = seconds_since(wait_start);
      if (batch.image.device() != device) {
        batch = {batch.image.to(device), batch.target.to(device)};
      }
      info.learning_rate = scheduled_learning_rate(options, report.steps);
      info.loss = trainer.step(batch, report.steps, hooks, info.skipped);
      if (!std::isfinite(info.loss)) {
        report.status = "nan";
        log_warning(
            files.label, ": the loss of step ", report.steps + 1, " is not finite; stopped");
        break;
      }
      info.step = ++report.steps;
      info.step_seconds = seconds_since(step_start);
      report.skipped += info.skipped;
      report.wait_seconds += info.wait_seconds;
      report.losses.push_back(info.loss);
      log.add(info, batch);
      if (hooks.after_step) hooks.after_step(info);
      smooth_loss = 0.95 * smooth_loss + 0.05 * info.loss;
      smooth_weight = 0.95 * smooth_weight + 0.05;
      if (progress) {
        progress->set(report.steps,
                      progress_note(smooth_loss / smooth_weight,
                                    report.wait_seconds / seconds_since(start),
                                    report.skipped));
      }
      if (seconds_since(saved_at) >= files.checkpoint_seconds && report.steps < options.steps)
        save();
    }
    log.finish();
  }
  if (report.steps != saved_step && report.status != "nan") save();
  if (report.skipped > 0) {
    log_warning(files.label,
                ": gradients of ",
                report.skipped,
                " of ",
                report.steps,
                " steps were not finite; those updates were left out");
  }
  if (trainer.average && report.steps > 0) trainer.average->copy_to_parameters();
  network->eval();
  report.seconds = seconds_since(start);
  return report;
}

// ---------------------------------------------------------------- probe and device

namespace {

/// Highest resident memory of the process since the last reset, from /proc (0 where there is none).
std::int64_t peak_resident_bytes(bool reset) {
  if (reset) {
    std::ofstream("/proc/self/clear_refs") << "5";
    return 0;
  }
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace

ProbeResult probe(const Graph& graph, const TrainOptions& options, int steps) {
  const at::Device device = choose_device(options.device);
  const c10::DeviceGuard device_guard(device);
  set_up_compute(options.threads, device);
  peak_resident_bytes(true);
  GraphModule network(graph, options.seed);
  network->to(device);
  Trainer trainer(network, options, device);
  const std::int64_t channels =
      infer_shapes(graph, options.patch)[static_cast<std::size_t>(graph.input_nodes().at(0))]
          .channels;
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(options.seed);
  Batch batch = empty_batch(options, channels, at::kCPU);
  batch.image.normal_(0, 1, generator);
  batch.target.random_(0, 2, generator);
  batch = {batch.image.to(device), batch.target.to(device)};

  const auto timed = [&](auto&& work) {
    const Clock::time_point start = Clock::now();
    work();
    return seconds_since(start);
  };
  ProbeResult result;
  std::vector<double> times;
  for (int i = 0; i <= steps; ++i) {  // the first is the warm-up
    bool skipped = false;
    times.push_back(timed([&] { trainer.step(batch, 0, {}, skipped); }));
  }
  times.erase(times.begin());
  std::sort(times.begin(), times.end());
  result.seconds_per_step = times[times.size() / 2];

  const at::NoGradGuard no_grad;
  network->eval();
  const Autocast autocast(device, trainer.type);
  const auto forward = [&] { network->forward(batch.image.slice(0, 0, 1))[0].sum().item<float>(); };
  forward();
  result.seconds_per_forward = timed(forward);
  result.peak_bytes = device.is_cpu() ? peak_resident_bytes(false)
                                      : c10::getDeviceAllocator(device.type())
                                            ->getDeviceStats(device.index())
                                            .allocated_bytes[0]
                                            .peak;
  return result;
}

}  // namespace nas
