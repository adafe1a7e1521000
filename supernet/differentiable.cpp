// SPDX-License-Identifier: Apache-2.0
#include "supernet/differentiable.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/rng.h"
#include "training/fit/optimizer.h"
#include "training/fit/training_step.h"
#include "training/model/device.h"

namespace nas {
namespace {

constexpr std::int64_t kHistoryPoints = 100;
constexpr double kHalfScale = 1024;  // of an fp16 alpha loss, so that its gradients do not vanish

std::vector<double> to_doubles(const at::Tensor& tensor) {
  const at::Tensor t = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  return {t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel()};
}

std::vector<std::vector<double>> to_doubles(const std::vector<at::Tensor>& tensors) {
  std::vector<std::vector<double>> result;
  for (const at::Tensor& tensor : tensors) result.push_back(to_doubles(tensor));
  return result;
}

std::vector<at::Tensor> softmax(const std::vector<at::Tensor>& logits) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& one : logits) result.push_back(one.softmax(0));
  return result;
}

std::vector<at::Tensor> detached(std::vector<at::Tensor> tensors) {
  for (at::Tensor& t : tensors) t = t.detach();
  return tensors;
}

/// Mean over decisions of the entropy in units of its largest value; decisions with one option have
/// none.
double mean_entropy(const std::vector<std::vector<double>>& probabilities) {
  double sum = 0;
  int count = 0;
  for (const std::vector<double>& p : probabilities) {
    if (p.size() < 2) continue;
    double entropy = 0;
    for (const double value : p) entropy -= value > 0 ? value * std::log(value) : 0;
    sum += entropy / std::log(static_cast<double>(p.size()));
    ++count;
  }
  return count == 0 ? 0 : sum / count;
}

/// alpha and everything that moves it.
class AlphaSearch {
 public:
  AlphaSearch(GraphModule& network,
              const std::vector<Decision>& decisions,
              std::vector<const CachedCase*> weight_cases,
              std::vector<const CachedCase*> alpha_cases,
              const TrainOptions& options,
              const SuperOptions& super)
      : network_(network),
        decisions_(decisions),
        weight_cases_(std::move(weight_cases)),
        alpha_cases_(std::move(alpha_cases)),
        options_(options),
        super_(super),
        device_(choose_device(options.device)),
        type_(choose_precision(options.precision, device_)),
        // At least one alpha step, whatever the share is rounded to.
        warmup_steps_(std::min<std::int64_t>(
            std::llround(super.warmup * static_cast<double>(options.steps)), options.steps - 1)),
        rate_(super.alpha_learning_rate > 0
                  ? super.alpha_learning_rate
                  : alpha_learning_rate_for(options.steps - warmup_steps_)) {
    for (const Decision& decision : decisions_) {
      alphas_.push_back(
          at::zeros({decision.options()}, at::TensorOptions(device_).dtype(at::kFloat))
              .requires_grad_(true));
    }
    TrainOptions adam;
    adam.optimizer = "adamw";
    adam.weight_decay = 0;
    optimizer_.emplace(alphas_, adam);
  }

  /// Before weight step `step`: after the warm-up one alpha step, then the mixture is fixed for the
  /// weights.
  void before_step(std::int64_t step, double learning_rate) {
    if (step >= warmup_steps_) alpha_step(step, learning_rate);
    mix();
    const std::int64_t interval = std::max<std::int64_t>(1, options_.steps / kHistoryPoints);
    if (step % interval == 0) record(step);
  }

  void mix() {
    const at::NoGradGuard no_grad;
    program_ =
        &network_->mix(detached(mixture_weights(network_->graph(), decisions_, softmax(alphas_))));
  }

  void record(std::int64_t step) {
    if (!points_.empty() && points_.back().at("step") == step) return;
    const auto p = probabilities();
    points_.push_back({{"step", step}, {"entropy", mean_entropy(p)}, {"probabilities", p}});
  }

  std::vector<std::vector<double>> probabilities() const {
    const at::NoGradGuard no_grad;
    return to_doubles(softmax(alphas_));
  }

  void fill(SuperReport& report) {
    mix();
    record(report.fit.steps);
    report.probabilities = probabilities();
    report.alpha_steps = alpha_steps_;
    report.alpha_skipped = skipped_;
    report.choices = program_->choices;
    report.merged_choices = program_->merged_choices;
    report.merged_pairs = program_->merged_pairs;
    report.history["warmup_steps"] = warmup_steps_;
    report.history["alpha_learning_rate"] = rate_;
    report.history["history"] = points_;
  }

  /// Numbers in JSON are written so that they read back to the same bits.
  std::string save() const {
    Json state = Json::object();
    for (const auto& [name, tensor] : optimizer_->state()) {
      state[name] = to_doubles(tensor.reshape({-1}));
    }
    return Json{{"alpha", to_doubles(alphas_)},
                {"optimizer", state},
                {"steps", alpha_steps_},
                {"skipped", skipped_},
                {"history", points_}}
        .dump();
  }

  void load(const std::string& text) {
    const Json json = parse_json(text, "checkpoint: alpha");
    const JsonReader reader(json, "checkpoint: alpha");
    const at::NoGradGuard no_grad;
    const auto restore = [](at::Tensor target, const Json& values) {
      const auto numbers = values.get<std::vector<double>>();
      NAS_CHECK(static_cast<std::int64_t>(numbers.size()) == target.numel(),
                "checkpoint: alpha: expected ",
                target.numel(),
                " numbers, found ",
                numbers.size());
      target.copy_(at::tensor(numbers, at::kDouble).reshape(target.sizes()));
    };
    NAS_CHECK(json.at("alpha").size() == alphas_.size(),
              "checkpoint: expected alphas of ",
              alphas_.size(),
              " decisions, found ",
              json.at("alpha").size());
    for (std::size_t d = 0; d < alphas_.size(); ++d) restore(alphas_[d], json.at("alpha")[d]);
    for (const auto& [name, tensor] : optimizer_->state()) {
      restore(tensor, reader.at("optimizer").at(name).json());
    }
    alpha_steps_ = reader.at("steps").integer(0, INT64_MAX);
    skipped_ = reader.at("skipped").integer(0, INT64_MAX);
    points_ = json.at("history");
  }

 private:
  /// The batch of step `step`, as fit would draw it.
  Batch next(std::unique_ptr<BatchSource>& source,
             const std::vector<const CachedCase*>& cases,
             const TrainOptions& options,
             std::int64_t step) {
    if (!source) {
      const OutputRegion region = output_region(network_->graph(), options.patch);
      source = make_source(cases, options, step, device_, region);
    }
    Batch batch = source->next();
    return {batch.image.to(device_), batch.target.to(device_)};
  }

  void alpha_step(std::int64_t step, double learning_rate) {
    if (!alpha_source_) {
      alpha_options_ = options_;
      alpha_options_.seed = Rng(options_.seed).split("alpha").key();
    }
    const Batch validation = next(alpha_source_, alpha_cases_, alpha_options_, step);
    network_->set_dropout_stream(Rng(options_.seed).split("alpha dropout", step).key());
    const bool second = super_.order == 2;
    const auto loss = [&](const Batch& batch) {
      const Autocast autocast(device_, second ? at::kFloat : type_);
      const at::Tensor value =
          training_loss(network_->forward(batch.image), batch.target, options_);
      return type_ == at::kHalf ? value * kHalfScale : value;
    };
    std::vector<at::Tensor> gradients;
    if (second) {
      const Batch training = next(weight_source_, weight_cases_, options_, step);
      gradients = alpha_gradients(
          network_, decisions_, alphas_, loss, validation, &training, learning_rate);
    } else {
      gradients = alpha_gradients(network_, decisions_, alphas_, loss, validation);
    }
    bool finite = true;
    for (std::size_t d = 0; d < alphas_.size(); ++d) {
      finite = finite && gradients[d].isfinite().all().item<bool>();
      alphas_[d].mutable_grad() = gradients[d];
    }
    if (finite) {
      optimizer_->step(rate_);
    } else {
      ++skipped_;
    }
    optimizer_->zero_grad();
    ++alpha_steps_;
  }

  GraphModule& network_;
  const std::vector<Decision>& decisions_;
  const std::vector<const CachedCase*> weight_cases_, alpha_cases_;
  const TrainOptions options_;
  const SuperOptions super_;
  const at::Device device_;
  const at::ScalarType type_;
  const std::int64_t warmup_steps_;
  const double rate_;
  std::vector<at::Tensor> alphas_;
  std::optional<Optimizer> optimizer_;
  TrainOptions alpha_options_;
  std::unique_ptr<BatchSource> alpha_source_, weight_source_;
  const Program* program_ = nullptr;
  std::int64_t alpha_steps_ = 0, skipped_ = 0;
  Json points_ = Json::array();
};

}  // namespace

double alpha_learning_rate_for(std::int64_t alpha_steps) {
  return std::clamp(3 / static_cast<double>(std::max<std::int64_t>(1, alpha_steps)), 3e-4, 0.05);
}

CaseHalves split_cases(std::vector<std::string> ids, std::uint64_t seed) {
  NAS_CHECK(ids.size() >= 2,
            "a differentiable search needs at least 2 training cases (one for the weights, one for "
            "alpha), found ",
            ids.size());
  std::sort(ids.begin(), ids.end());
  Rng rng = Rng(seed).split("alpha cases");
  rng.shuffle(ids);
  const auto half = static_cast<std::ptrdiff_t>((ids.size() + 1) / 2);
  CaseHalves halves{{ids.begin(), ids.begin() + half}, {ids.begin() + half, ids.end()}};
  std::sort(halves.weights.begin(), halves.weights.end());
  std::sort(halves.alpha.begin(), halves.alpha.end());
  return halves;
}

std::vector<at::Tensor> mixture_weights(const Graph& graph,
                                        const std::vector<Decision>& decisions,
                                        const std::vector<at::Tensor>& probabilities) {
  const std::vector<int> sizes = choice_sizes(graph);
  std::vector<at::Tensor> weights(sizes.size());
  for (std::size_t d = 0; d < decisions.size(); ++d) {
    const Decision& decision = decisions[d];
    for (std::size_t i = 0; i < decision.choices.size(); ++i) {
      std::vector<std::int64_t> place;
      for (const std::vector<int>& option : decision.picks) place.push_back(option[i]);
      const at::Tensor& p = probabilities[d];
      weights[decision.choices[i]] =
          at::zeros({sizes[decision.choices[i]]}, p.options().requires_grad(false))
              .index_add(0, at::tensor(place, at::kLong).to(p.device()), p);
    }
  }
  for (std::size_t c = 0; c < weights.size(); ++c) {
    if (weights[c].defined()) continue;
    weights[c] = at::zeros({sizes[c]});
    weights[c][0] = 1;
  }
  return weights;
}

std::vector<at::Tensor> alpha_gradients(GraphModule& network,
                                        const std::vector<Decision>& decisions,
                                        const std::vector<at::Tensor>& alphas,
                                        const std::function<at::Tensor(const Batch&)>& loss,
                                        const Batch& validation,
                                        const Batch* training,
                                        double rate) {
  const auto mixed_loss = [&](const Batch& batch, bool alpha_learns) {
    std::vector<at::Tensor> weights = mixture_weights(network->graph(), decisions, softmax(alphas));
    network->mix(alpha_learns ? std::move(weights) : detached(std::move(weights)));
    return loss(batch);
  };
  using torch::autograd::grad;
  if (training == nullptr) return grad({mixed_loss(validation, true)}, alphas);

  std::vector<at::Tensor> weights;
  for (const at::Tensor& p : network->parameters()) weights.push_back(p);
  const auto gradients_of_weights = [&](const at::Tensor& value) {
    return grad({value}, weights, {}, std::nullopt, false, /*allow_unused=*/true);
  };
  const auto move_weights = [&](const std::vector<at::Tensor>& direction, double length) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (direction[i].defined()) weights[i].add_(direction[i], length);
    }
  };
  std::vector<at::Tensor> saved;
  for (const at::Tensor& w : weights) saved.push_back(w.detach().clone());
  const auto restore = [&] {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i].copy_(saved[i]);
  };

  move_weights(gradients_of_weights(mixed_loss(*training, false)), -rate);
  std::vector<at::Tensor> both = alphas;
  both.insert(both.end(), weights.begin(), weights.end());
  const std::vector<at::Tensor> unrolled =
      grad({mixed_loss(validation, true)}, both, {}, std::nullopt, false, /*allow_unused=*/true);
  restore();
  std::vector<at::Tensor> result(unrolled.begin(),
                                 unrolled.begin() + static_cast<std::ptrdiff_t>(alphas.size()));
  const std::vector<at::Tensor> direction(
      unrolled.begin() + static_cast<std::ptrdiff_t>(alphas.size()), unrolled.end());
  double square = 0;
  for (const at::Tensor& v : direction) {
    if (v.defined()) square += v.square().sum(at::kDouble).item<double>();
  }
  if (!(square > 0) || !std::isfinite(square)) return result;
  const double step = 0.01 / std::sqrt(square);
  move_weights(direction, step);
  const std::vector<at::Tensor> above = grad({mixed_loss(*training, true)}, alphas);
  restore();
  move_weights(direction, -step);
  const std::vector<at::Tensor> below = grad({mixed_loss(*training, true)}, alphas);
  restore();
  for (std::size_t d = 0; d < alphas.size(); ++d) {
    result[d] = result[d] - (above[d] - below[d]) * (rate / (2 * step));
  }
  return result;
}

void train_differentiable(GraphModule& network,
                          const std::vector<Decision>& decisions,
                          const CaseCache& data,
                          const std::vector<std::string>& train_ids,
                          const TrainOptions& options,
                          const SuperOptions& super,
                          const FitFiles& files,
                          const FitHooks& hooks,
                          SuperReport& report) {
  const CaseHalves halves = split_cases(train_ids, options.seed);
  const auto cases_of = [&](const std::vector<std::string>& ids) {
    std::vector<const CachedCase*> cases;
    for (const std::string& id : ids) cases.push_back(&data.find(id));
    return cases;
  };
  network->to(choose_device(options.device));
  AlphaSearch alpha(
      network, decisions, cases_of(halves.weights), cases_of(halves.alpha), options, super);
  FitHooks own = hooks;
  own.before_step = [&](std::int64_t step, double learning_rate) {
    if (hooks.before_step) hooks.before_step(step, learning_rate);
    alpha.before_step(step, learning_rate);
  };
  own.save_state = [&] { return alpha.save(); };
  own.load_state = [&](const std::string& text) { alpha.load(text); };
  report.fit = fit(network, data, halves.weights, options, files, own);
  alpha.fill(report);
  if (report.alpha_skipped > 0) {
    log_warning(files.label,
                ": alpha gradients of ",
                report.alpha_skipped,
                " of ",
                report.alpha_steps,
                " steps were not finite; those updates were left out");
  }
}

}  // namespace nas
