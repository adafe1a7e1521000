// SPDX-License-Identifier: Apache-2.0
// The command `voxnas` with a strategy, a loss and a network block of one's own:
//   own automl training.json --data DATA --controller near_best --trials 3 -o RUN
#include <voxnas.h>

#include <ATen/ATen.h>

namespace {

/// Changes the best genotype so far in one gene.
class NearBest : public nas::OneByOne {
 public:
  explicit NearBest(const nas::StrategyContext& context) : OneByOne(context, "near_best") {
    begin();
  }

 protected:
  std::optional<nas::Genotype> next() override {
    nas::Rng rng = context_.rng.split("next", ledger_.size());
    if (const nas::Winner best = ledger_.best_training(); best.found) {
      const nas::Genotype near = context_.space->mutate(best.genotype, rng, draws_.groups());
      if (draws_.take(near)) return near;
    }
    return draws_.sample(rng);
  }
};

nas::StrategyKind near_best() {
  nas::StrategyKind kind;
  kind.name = "near_best";
  kind.words = "one change of the best";
  kind.options = {nas::trials_option(), nas::parallel_option()};
  kind.async = true;
  kind.budget = nas::trained_once_budget;
  kind.least_trainings = nas::least_trained_once;
  kind.forecast = nas::trained_once_forecast;
  kind.make = [](const nas::StrategyContext& context) -> std::unique_ptr<nas::Strategy> {
    return std::make_unique<NearBest>(context);
  };
  return kind;
}

/// log(cosh(1 - Dice)), averaged over classes (Jadon, "A survey of loss functions for semantic
/// segmentation", CIBCB 2020).
at::Tensor log_cosh_dice(const at::Tensor& logits,
                         const at::Tensor& target,
                         const nas::TrainOptions& options) {
  const at::Tensor p = logits.to(at::kFloat).softmax(1);
  const at::Tensor there = at::one_hot(target.to(at::kLong), p.size(1)).movedim(-1, 1);
  const at::Tensor both = (p + there).sum({2, 3, 4}), common = (p * there).sum({2, 3, 4});
  const at::Tensor dice = (2 * common + options.dice_smooth) / (both + options.dice_smooth);
  return (1 - dice).cosh().log().mean();
}

/// x * sigmoid(weight * x), one weight per channel.
nas::OwnOperation swish() {
  nas::OwnOperation own;
  own.row.name = "swish";
  own.row.kind = nas::OperationKind::Activation;
  own.row.shape = [](const nas::Node&, std::span<const nas::TensorShape> in) { return in[0]; };
  own.row.state = [](const nas::Node&, std::span<const nas::TensorShape> in) {
    return std::vector<nas::StateTensor>{{"weight", {in[0].channels}}};
  };
  own.row.keeps = nas::Keeps::Inputs;
  own.make = [](const nas::Node&, const nas::NodeState& state) -> nas::StepFunction {
    const at::Tensor weight = state("weight");
    return [weight](const nas::Values& in) {
      const at::Tensor w = weight.to(in[0].scalar_type()).view({1, -1, 1, 1, 1});
      return in[0] * (in[0] * w).sigmoid();
    };
  };
  return own;
}

}  // namespace

int main(int argc, char** argv) {
  return nas::run_program(argc,
                          argv,
                          {.strategies = {near_best()},
                           .losses = {{"log_cosh_dice", log_cosh_dice}},
                           .operations = {swish()}});
}
