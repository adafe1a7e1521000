// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nas/core/process_peer.h"
#include "nas/search/evaluator.h"

namespace nas {

/// A program of the user carries out the search trials (docs/formats.md, "Plug-ins"); sizes, plans
/// and the final trainings are those of another evaluator. The program is started with the first
/// trial, and again after one in which it did something wrong: that trial has failed, with the
/// reason.
class ExternalExecutor : public Evaluator {
 public:
  /// \param space, inner are borrowed.
  ExternalExecutor(const SearchSpace& space, Evaluator& inner, PeerOptions options);

  TrialCost describe(const Genotype& genotype) override { return inner_.describe(genotype); }
  Probe probe(const Genotype& genotype, TrialPurpose purpose) override {
    return inner_.probe(genotype, purpose);
  }
  TrialPlan plan(const Trial& trial) override { return inner_.plan(trial); }
  Evaluation evaluate(const Trial& trial, const TrialContext& context) override;
  std::int64_t batch_size(const Trial& trial) override {
    return trial.purpose == TrialPurpose::Search ? 1 : inner_.batch_size(trial);
  }
  std::vector<Evaluation> evaluate_batch(const std::vector<Trial>& trials,
                                         const TrialContext& context) override {
    return inner_.evaluate_batch(trials, context);
  }
  std::string measured() const override { return inner_.measured(); }
  void restore(const std::string& measured) override { inner_.restore(measured); }
  double step_seconds(const Genotype& genotype) override { return inner_.step_seconds(genotype); }

 private:
  Evaluation run(const Trial& trial, const TrialContext& context);
  const SearchSpace& space_;
  Evaluator& inner_;
  const PeerOptions options_;
  std::unique_ptr<ProcessPeer> peer_;
};

/// An executor that starts `command` in a shell; nullptr for "".
std::unique_ptr<Evaluator> own_executor(const std::string& command,
                                        const SearchSpace& space,
                                        Evaluator& inner);

}  // namespace nas
