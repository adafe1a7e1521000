// SPDX-License-Identifier: Apache-2.0
#include "training/fit/training_step.h"

#include <cmath>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "training/fit/losses.h"
#include "training/fit/own_losses.h"
#include "training/fit/script_loss.h"
#include "training/model/device.h"
#include "training/settings/schedule.h"

namespace nas {

at::Tensor training_loss(const std::vector<at::Tensor>& outputs,
                         const at::Tensor& target,
                         const TrainOptions& options) {
  if (is_loss_file(options.loss)) return script_loss(outputs, target, options);
  if (const OwnLoss* own = own_loss(options.loss)) {
    return sum_over_outputs(outputs,
                            target,
                            options.deep_supervision,
                            [&](const at::Tensor& logits, const at::Tensor& here) {
                              const at::Tensor loss = own->loss(logits, here, options);
                              NAS_CHECK(loss.numel() == 1,
                                        "loss '",
                                        own->name,
                                        "': expected a scalar, found a tensor of sizes ",
                                        loss.sizes());
                              return loss.reshape({});
                            });
  }
  return segmentation_loss(outputs, target, options.deep_supervision, loss_options(options));
}

TrainingStep::TrainingStep(GraphModule& net, const TrainOptions& o, const at::Device& d)
    : network(net),
      options(o),
      device(d),
      type(choose_precision(o.precision, d)),
      optimizer(net->parameters(), o) {
  if (o.average_decay > 0) average.emplace(net->parameters());
  if (type == at::kHalf) scaler.emplace(d);
}

double TrainingStep::run(const Batch& batch, std::int64_t index, bool& skipped) {
  optimizer.zero_grad();
  network->set_dropout_stream(Rng(options.seed).split("dropout", index).key());

  // ---------------- forward ----------------
  at::Tensor loss;
  {
    const Autocast autocast(device, type);
    const std::vector<at::Tensor> outputs = network->forward(batch.image);
    first_output = outputs.front().detach();
    loss = training_loss(outputs, batch.target, options);
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

NamedTensors TrainingStep::state() const {
  NamedTensors all;
  for (const auto& item : network->named_parameters()) {
    all.emplace_back("weights." + item.key(), item.value());
  }
  for (const auto& item : network->named_buffers()) {
    all.emplace_back("weights." + item.key(), item.value());
  }
  const auto append = [&](const std::string& prefix, const NamedTensors& part) {
    for (const auto& [name, tensor] : part) all.emplace_back(prefix + name, tensor);
  };
  append("optimizer.", optimizer.state());
  if (average) append("average.", average->state());
  if (scaler) append("scaler.", scaler->state());
  return all;
}

}  // namespace nas
