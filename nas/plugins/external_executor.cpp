// SPDX-License-Identifier: Apache-2.0
#include "nas/plugins/external_executor.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"
#include "nas/plugins/space_json.h"

namespace nas {
namespace {

constexpr double kLookSeconds = 0.2;  // between two looks for a stop while a trial runs
constexpr double kAbortSeconds = 10;  // for the program to end a trial that is aborted

Evaluation read_result(const JsonReader& result, double seconds) {
  result.check_keys({"status", "score", "metrics", "steps", "message", "how"});
  Evaluation e;
  e.status =
      result.has("status") ? trial_status_from_text(result.at("status").text()) : TrialStatus::Done;
  const bool final = e.status != TrialStatus::Queued && e.status != TrialStatus::Running;
  NAS_CHECK(final, result.where(), ".status: expected how the trial ended");
  if (e.status == TrialStatus::Done) {
    NAS_CHECK(result.has("score"), result.where(), ": expected a score, found none");
    if (result.at("score").json().is_null()) {
      e.status = TrialStatus::Nan;  // JSON has no NaN
    } else {
      e.score = result.at("score").number();
    }
  }
  if (result.has("metrics")) {
    for (const std::string& name : result.at("metrics").keys()) {
      e.metrics[name] = result.at("metrics").at(name).number();
    }
  }
  if (result.has("steps")) e.steps = result.at("steps").integer(0, INT64_MAX);
  if (result.has("message")) e.message = result.at("message").text();
  e.how = result.has("how") ? result.at("how").text() : "own executor";
  e.seconds = seconds;
  return e;
}

}  // namespace

std::unique_ptr<Evaluator> own_executor(const std::string& command,
                                        const SearchSpace& space,
                                        Evaluator& inner) {
  if (command.empty()) return nullptr;
  return std::make_unique<ExternalExecutor>(
      space, inner, PeerOptions{.command = shell_words(command), .name = "executor"});
}

ExternalExecutor::ExternalExecutor(const SearchSpace& space, Evaluator& inner, PeerOptions options)
    : space_(space), inner_(inner), options_(std::move(options)) {}

Evaluation ExternalExecutor::evaluate(const Trial& trial, const TrialContext& context) {
  if (trial.purpose != TrialPurpose::Search) return inner_.evaluate(trial, context);
  const Stopwatch watch;
  try {
    return run(trial, context);
  } catch (const Error& error) {
    peer_.reset();  // the next trial begins with a fresh one
    if (error.kind() != ErrorKind::Input) throw;
    Evaluation failed;
    failed.message = error.what();
    failed.seconds = watch.seconds();
    return failed;
  }
}

Evaluation ExternalExecutor::run(const Trial& trial, const TrialContext& context) {
  const Stopwatch watch;
  if (!peer_) {
    auto peer = std::make_unique<ProcessPeer>(options_);
    peer->call({{"do", "hello"}, {"protocol", 1}, {"role", "executor"}});
    peer->call({{"do", "set_space"}, {"space", space_to_json(space_)}});
    peer_ = std::move(peer);
  }
  Json request{{"do", "evaluate"},
               {"trial",
                {{"id", trial.id},
                 {"values", values_to_json(space_, trial.genotype)},
                 {"genotype", trial.genotype_text},
                 {"rung", trial.rung},
                 {"steps", trial.steps},
                 {"seed", trial.seed},
                 {"settings", parse_json(trial.settings, "settings")}}},
               {"folder", std::filesystem::absolute(context.folder).string()}};
  if (context.deadline > 0) request["seconds"] = context.deadline - context.clock();
  peer_->send(request);
  bool aborting = false;
  Stopwatch since_abort, since_beat;
  while (true) {
    const auto line = peer_->receive(kLookSeconds);
    if (since_beat.seconds() > 5 && context.heartbeat) {
      since_beat.restart();
      context.heartbeat();
    }
    const bool late = context.deadline > 0 && context.clock() > context.deadline;
    const bool wanted = late || (context.aborted && context.aborted());
    if (wanted && !aborting) {
      aborting = true;
      since_abort.restart();
      peer_->send({{"do", "abort"}});
    }
    if (aborting && since_abort.seconds() > kAbortSeconds) peer_.reset();
    if (!peer_ || (aborting && line && line->contains("result"))) {
      Evaluation stopped;
      stopped.status = late ? TrialStatus::Timeout : TrialStatus::Stopped;
      stopped.message = late ? "the stage's time was over" : "";
      stopped.seconds = watch.seconds();
      return stopped;
    }
    if (!line) continue;
    const JsonReader reader(*line, options_.name);
    reader.check_keys({"report", "result"});
    if (reader.has("report")) {
      const JsonReader report = reader.at("report");
      const bool go_on = !context.report || context.report(report.at("step").integer(0, INT64_MAX),
                                                           report.at("score").number());
      if (!go_on) {
        peer_->send({{"do", "abort"}});
        peer_.reset();
        Evaluation pruned;
        pruned.status = TrialStatus::Pruned;
        pruned.score = report.at("score").number();
        pruned.steps = report.at("step").integer();
        pruned.seconds = watch.seconds();
        return pruned;
      }
    }
    if (reader.has("result")) {
      Evaluation e = read_result(reader.at("result"), watch.seconds());
      if (e.steps == 0 && e.status == TrialStatus::Done) e.steps = trial.steps;
      return e;
    }
  }
}

}  // namespace nas
