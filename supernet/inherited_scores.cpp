// SPDX-License-Identifier: Apache-2.0
#include "supernet/inherited_scores.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/imaging/metrics.h"
#include "training/fit/losses.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// One path on its way through the windows.
struct Candidate {
  std::size_t index = 0;  // in the caller's order
  std::shared_ptr<const Program> program;
  std::vector<double> step_macs;       // of one window
  std::vector<at::Tensor> statistics;  // of its batch norms, in the order of named_buffers()
  std::vector<double> common, both;    // voxels per class or region, as HardCounts
  bool finite = true;
};

/// Values in front of a step that a later path starts from.
struct Kept {
  std::size_t step = 0;
  Values values;
};

std::vector<double> macs_of_steps(const Program& program, const Extent3& patch) {
  const std::vector<Cost> costs = node_costs(program.graph, patch);
  std::vector<double> macs;
  for (const Program::Step& step : program.steps) {
    macs.push_back(static_cast<double>(costs[static_cast<std::size_t>(step.node)].macs));
  }
  return macs;
}

/// Nodes whose values steps [begin, end) need from before; the result counts as used at the end.
std::vector<char> needed_by(const Program& program, std::size_t begin, std::size_t end) {
  std::vector<char> made(program.graph.nodes.size(), 0), needed(program.graph.nodes.size(), 0);
  for (std::size_t s = begin; s < end; ++s) {
    const Program::Step& step = program.steps[s];
    for (const int i : step.inputs) {
      if (!made[static_cast<std::size_t>(i)]) needed[static_cast<std::size_t>(i)] = 1;
    }
    made[static_cast<std::size_t>(step.node)] = 1;
  }
  if (end == program.steps.size()) {
    const auto result = static_cast<std::size_t>(program.graph.output_nodes()[0]);
    if (!made[result]) needed[result] = 1;
  }
  return needed;
}

/// Bytes of the tensors of all snapshots, each counted once.
std::int64_t bytes_of(const std::vector<Kept>& stack) {
  std::set<const void*> seen;
  std::int64_t bytes = 0;
  for (const Kept& kept : stack) {
    for (const at::Tensor& t : kept.values) {
      if (t.defined() && seen.insert(t.storage().data()).second)
        bytes += static_cast<std::int64_t>(t.storage().nbytes());
    }
  }
  return bytes;
}

std::vector<at::Tensor> buffers_of(GraphModule& network) {
  std::vector<at::Tensor> buffers;
  for (const auto& item : network->named_buffers()) buffers.push_back(item.value());
  return buffers;
}

/// Puts network state back at the end of the scoring.
class StateGuard {
 public:
  explicit StateGuard(GraphModule& network)
      : network_(network), training_(network->is_training()), buffers_(buffers_of(network)) {
    for (const at::Tensor& buffer : buffers_) saved_.push_back(buffer.clone());
    network_->eval();
  }
  StateGuard(const StateGuard&) = delete;
  StateGuard& operator=(const StateGuard&) = delete;
  ~StateGuard() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].copy_(saved_[i]);
    network_->set_norm_momentum(std::nullopt);
    network_->train(training_);
  }

 private:
  GraphModule& network_;
  bool training_;
  std::vector<at::Tensor> buffers_, saved_;
};

/// The scorer of one call.
class PathScorer {
 public:
  PathScorer(GraphModule& network, const Batch& windows, const ScoringOptions& options)
      : network_(network),
        windows_(windows),
        options_(options),
        device_(choose_device(options.device)),
        type_(choose_precision(options.precision, device_)) {}

  ScoringReport run(const std::vector<std::vector<int>>& paths) {
    const auto start = std::chrono::steady_clock::now();
    if (options_.threads > 0) set_up_compute(options_.threads, device_);
    network_->to(device_);
    const StateGuard guard(network_);
    const at::NoGradGuard no_grad;
    prepare(paths);
    report_.stopped = !recalibrate();
    for (std::int64_t w = 0; w < windows_.image.size(0) && !report_.stopped; ++w) {
      report_.stopped = !run_window(w);
    }
    finish(paths.size());
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  bool stop() const { return options_.should_stop && options_.should_stop(); }

  void prepare(const std::vector<std::vector<int>>& paths) {
    std::vector<std::size_t> order(paths.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return paths[a] < paths[b];
    });
    const Extent3 patch{windows_.image.size(2), windows_.image.size(3), windows_.image.size(4)};
    for (const std::size_t i : order) {
      Candidate candidate;
      candidate.index = i;
      candidate.program = network_->path(paths[i], /*first_output=*/true);
      candidate.step_macs = macs_of_steps(*candidate.program, patch);
      candidates_.push_back(std::move(candidate));
    }
    for (std::size_t i = 0; i + 1 < candidates_.size(); ++i) {
      shared_.push_back(options_.share_prefixes
                            ? shared_steps(*candidates_[i].program, *candidates_[i + 1].program)
                            : 0);
    }
    shared_.push_back(0);
  }

  /// Statistics of batch norms for each path: the mean over the batches of options.statistics.
  bool recalibrate() {
    if (!has_batch_norm(network_->graph())) return true;
    NAS_CHECK_KIND(Usage,
                   !options_.statistics.empty(),
                   "scoring with inherited weights: network '",
                   network_->graph().name,
                   "' has batch norms, whose statistics need training batches");
    buffers_ = buffers_of(network_);
    for (Candidate& candidate : candidates_) {
      for (std::size_t b = 0; b < options_.statistics.size(); ++b) {
        if (stop()) return false;
        network_->set_norm_momentum(1 / static_cast<double>(b + 1));
        Values values = start(*candidate.program, options_.statistics[b].image.to(device_));
        run_steps(*candidate.program, 0, candidate.program->steps.size(), values);
      }
      for (const at::Tensor& buffer : buffers_) candidate.statistics.push_back(buffer.clone());
    }
    network_->set_norm_momentum(std::nullopt);
    return true;
  }

  Values start(const Program& program, const at::Tensor& image) {
    const Autocast autocast(device_, type_);
    return network_->start(program, image);
  }

  /// All candidates on one window.
  bool run_window(std::int64_t w) {
    const at::Tensor image = windows_.image.narrow(0, w, 1).to(device_);
    const at::Tensor target = windows_.target.narrow(0, w, 1).to(device_);
    std::vector<Kept> stack;
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      if (stop()) return false;
      Candidate& candidate = candidates_[c];
      const Program& program = *candidate.program;
      for (std::size_t b = 0; b < candidate.statistics.size(); ++b) {
        buffers_[b].copy_(candidate.statistics[b]);
      }
      // From the deepest snapshot that is a beginning of this path too.
      const std::size_t shared = c == 0 ? 0 : shared_[c - 1];
      while (!stack.empty() && stack.back().step > shared) stack.pop_back();
      std::size_t at = stack.empty() ? 0 : stack.back().step;
      Values values = stack.empty() ? start(program, image) : stack.back().values;
      values.resize(program.graph.nodes.size());
      // Steps at which later paths leave this one: where what they need must be kept.
      for (const auto& [step, needed] : departures(c, at)) {
        advance(candidate, at, step, values, &needed);
        Kept kept;
        kept.step = step;
        kept.values.resize(values.size());
        for (std::size_t i = 0; i < needed.size() && i < values.size(); ++i) {
          if (needed[i]) kept.values[i] = values[i];
        }
        stack.push_back(std::move(kept));
        const std::int64_t bytes = bytes_of(stack);
        if (bytes > options_.keep_bytes) {
          stack.pop_back();
        } else {
          report_.kept_bytes = std::max(report_.kept_bytes, bytes);
        }
      }
      advance(candidate, at, program.steps.size(), values, nullptr);
      report_.naive_steps += static_cast<std::int64_t>(program.steps.size());
      for (const double macs : candidate.step_macs) report_.naive_macs += macs;
      count(candidate, values[static_cast<std::size_t>(program.graph.output_nodes()[0])], target);
    }
    return true;
  }

  void advance(Candidate& candidate,
               std::size_t& at,
               std::size_t end,
               Values& values,
               const std::vector<char>* keep) {
    for (std::size_t s = at; s < end; ++s) report_.macs += candidate.step_macs[s];
    report_.steps += static_cast<std::int64_t>(end - at);
    run_steps(*candidate.program, at, end, values, keep);
    at = end;
  }

  /// Steps after `from` at which one of the next paths leaves path c, in order, each with the nodes
  /// whose values are kept there: what the paths that leave there need, and, should a later
  /// snapshot not fit, what it takes to get to its step again.
  std::vector<std::pair<std::size_t, std::vector<char>>> departures(std::size_t c,
                                                                    std::size_t from) const {
    std::vector<std::pair<std::size_t, std::vector<char>>> found;  // deepest first
    std::size_t common = std::numeric_limits<std::size_t>::max();
    for (std::size_t next = c; next + 1 < candidates_.size(); ++next) {
      common = std::min(common, shared_[next]);
      if (common <= from) break;
      if (found.empty() || common < found.back().first) found.push_back({common, {}});
      const Program& leaving = *candidates_[next + 1].program;
      const std::vector<char> needed = needed_by(leaving, common, leaving.steps.size());
      std::vector<char>& all = found.back().second;
      all.resize(std::max(all.size(), needed.size()), 0);
      for (std::size_t i = 0; i < needed.size(); ++i) all[i] |= needed[i];
    }
    const Program& program = *candidates_[c].program;
    const std::size_t deepest = found.empty() ? 0 : found.front().first;
    for (std::size_t f = 0; f < found.size(); ++f) {
      std::vector<char>& all = found[f].second;
      all.resize(std::max(all.size(), program.graph.nodes.size()), 0);
      const auto add = [&all](const std::vector<char>& more) {
        all.resize(std::max(all.size(), more.size()), 0);
        for (std::size_t i = 0; i < more.size(); ++i) all[i] |= more[i];
      };
      add(needed_by(program, found[f].first, deepest));
      if (f > 0) add(found[f - 1].second);
    }
    std::reverse(found.begin(), found.end());
    return found;
  }

  void count(Candidate& candidate, const at::Tensor& logits, const at::Tensor& target) {
    candidate.finite = candidate.finite && logits.isfinite().all().item<bool>();
    const HardCounts counts = hard_counts(logits, target);
    const auto classes = static_cast<std::size_t>(counts.both.numel());
    candidate.common.resize(classes, 0);
    candidate.both.resize(classes, 0);
    for (std::size_t k = 0; k < classes; ++k) {
      candidate.common[k] += counts.common.const_data_ptr<double>()[k];
      candidate.both[k] += counts.both.const_data_ptr<double>()[k];
    }
  }

  void finish(std::size_t count) {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    report_.scores.resize(count);
    for (const Candidate& candidate : candidates_) {
      PathScore& score = report_.scores[candidate.index];
      score.finite = candidate.finite;
      ForegroundMean mean(candidate.both.size());
      for (std::size_t k = 0; k < candidate.both.size(); ++k) {
        const bool occurs = candidate.both[k] > 0;
        score.dice.push_back(occurs ? 2 * candidate.common[k] / candidate.both[k] : kNone);
        if (occurs) mean.add(k, score.dice.back());
      }
      score.score = candidate.finite ? mean.value().value_or(kNone) : kNone;
    }
  }

  GraphModule& network_;
  const Batch& windows_;
  const ScoringOptions& options_;
  const at::Device device_;
  const at::ScalarType type_;
  std::vector<Candidate> candidates_;  // sorted by path
  std::vector<std::size_t> shared_;    // steps that candidate i and i + 1 share
  std::vector<at::Tensor> buffers_;
  ScoringReport report_;
};

}  // namespace

bool has_batch_norm(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op == "batch_norm" ||
           std::any_of(node.alternatives.begin(), node.alternatives.end(), has_batch_norm);
  });
}

ScoringWindows scoring_windows(const Extent3& patch, std::uint64_t seed) {
  constexpr std::int64_t kVoxels = std::int64_t{1} << 24;
  const std::int64_t count = (kVoxels + volume(patch) - 1) / volume(patch);
  return {std::clamp<std::int64_t>(count, 4, 16), patch, seed};
}

Batch make_windows(const std::vector<const CachedCase*>& cases, const ScoringWindows& windows) {
  TrainOptions options;
  options.batch = windows.count;
  options.patch = windows.patch;
  options.foreground_fraction = 0.5;
  options.augmentation = 0;
  options.mirror = false;
  options.seed = Rng(windows.seed).split("scoring windows").key();
  return make_batch(cases, options, 0);
}

ScoringReport score_paths(GraphModule& network,
                          const std::vector<std::vector<int>>& paths,
                          const Batch& windows,
                          const ScoringOptions& options) {
  return PathScorer(network, windows, options).run(paths);
}

}  // namespace nas
