// SPDX-License-Identifier: Apache-2.0
#include "nas/plugins/external_listener.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/plugins/space_json.h"

namespace nas {
namespace {

class ExternalListener : public SearchListener {
 public:
  ExternalListener(const SearchSpace& space, PeerOptions options)
      : space_(space),
        name_(options.name),
        peer_(std::make_unique<ProcessPeer>(std::move(options))) {
    peer_->call({{"do", "hello"}, {"protocol", 1}, {"role", "handler"}});
  }
  std::string name() const override { return name_; }

  void search_started(const SearchSpace& space, const Recipe& recipe) override {
    tell({{"event", "search_started"}, {"recipe", recipe.name}, {"space", space_to_json(space)}});
  }
  void search_ended(SearchEnd end) override {
    tell({{"event", "search_ended"}, {"finished", end == SearchEnd::Finished}});
  }
  void stage_started(const StageSpec& stage,
                     const StageBudget&,
                     const Genotype& start,
                     std::int64_t planned) override {
    tell({{"event", "stage_started"},
          {"stage", stage.name},
          {"kind", stage.kind->name},
          {"start", values_to_json(space_, start)},
          {"planned_trials", planned}});
  }
  void proposed(const StageSpec& stage, const std::vector<std::int64_t>& trials) override {
    tell({{"event", "proposed"}, {"stage", stage.name}, {"trials", trials}});
  }
  void trial_started(const Trial& trial) override { tell(event("trial_started", trial)); }
  void trial_ended(const Trial& trial) override {
    Json json = event("trial_ended", trial);
    json["status"] = to_text(trial.status);
    json["score"] =
        trial.status == TrialStatus::Done ? Json(trial.evaluation.score) : Json(nullptr);
    json["metrics"] = trial.evaluation.metrics;
    json["message"] = trial.evaluation.message;
    tell(json);
  }
  void best_improved(const Trial& trial) override { tell(event("best_improved", trial)); }
  void stage_ended(const StageSpec& stage, const Winner& winner) override {
    Json json{{"event", "stage_ended"}, {"stage", stage.name}, {"found", winner.found}};
    if (winner.found) json["winner"] = values_to_json(space_, winner.genotype);
    tell(json);
  }
  std::string wants_to_stop() override {
    listen();
    return reason_;
  }

 private:
  Json event(const char* name, const Trial& trial) const {
    return {{"event", name},
            {"trial", trial.id},
            {"stage", trial.stage},
            {"label", trial.label},
            {"rung", trial.rung},
            {"worker", trial.owner},
            {"values", values_to_json(space_, trial.genotype)}};
  }
  void tell(const Json& json) {
    guarded([&] { peer_->send(json); });
  }
  void listen() {
    guarded([&] {
      while (const auto line = peer_->receive(0)) {
        const JsonReader reader(*line, name_);
        reader.check_keys({"stop", "ok"});
        if (reader.has("stop")) reason_ = reader.at("stop").text();
      }
    });
  }
  template <class Body>
  void guarded(Body&& body) {
    if (!peer_) return;
    try {
      body();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::Stopped) return;
      log_warning("listener ", error.what(), "; it hears nothing more");
      peer_.reset();
    }
  }

  const SearchSpace& space_;
  const std::string name_;
  std::unique_ptr<ProcessPeer> peer_;
  std::string reason_;
};

}  // namespace

std::unique_ptr<SearchListener> make_external_listener(const SearchSpace& space,
                                                       PeerOptions options) {
  return std::make_unique<ExternalListener>(space, std::move(options));
}

}  // namespace nas
