// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/steering/steering.h"

#include "nas/core/error.h"

namespace nas {
namespace {

void check_worker(bool there, const std::string& name) {
  NAS_CHECK_KIND(Usage, there, "the run has no worker \"", name.substr(0, 64), "\"");
}

}  // namespace

Trial existing_trial(const ResultsDb& db, std::int64_t id) {
  const auto trial = db.trial(id);
  NAS_CHECK_KIND(Usage, trial.has_value(), "the run has no trial ", id);
  return *trial;
}

std::string abort_trial(ResultsDb& db, std::int64_t id) {
  const Trial trial = existing_trial(db, id);
  NAS_CHECK_KIND(
      Usage, db.wish(id, "stop"), "trial ", id, " has ended already: ", to_text(trial.status));
  return concat_text(
      "trial ",
      id,
      trial.status == TrialStatus::Running ? ": will end after its step" : ": will not be begun");
}

std::string skip_trial(ResultsDb& db, std::int64_t id) {
  const Trial trial = existing_trial(db, id);
  NAS_CHECK_KIND(Usage,
                 trial.status == TrialStatus::Queued,
                 "trial ",
                 id,
                 " is not queued but ",
                 to_text(trial.status),
                 " (abort ends one that runs)");
  return abort_trial(db, id);
}

std::string suspend_worker(ResultsDb& db, const std::string& name) {
  check_worker(db.wish_worker(name, "suspend"), name);
  return name + ": gets no new trial; what it runs goes on";
}

std::string resume_worker(ResultsDb& db, const std::string& name) {
  check_worker(db.wish_worker(name, ""), name);
  return name + ": gets trials again";
}

std::string stop_run(ResultsDb& db, bool now) {
  NAS_CHECK_KIND(Usage,
                 db.state() == "running",
                 "the run is not running but ",
                 db.state().empty() ? std::string("of an earlier version") : db.state());
  if (now) {
    for (const StageRecord& stage : db.stages()) {
      if (stage.status != "running") continue;
      for (const OpenTrial& open : db.open_trials(stage.name)) {
        if (open.running) db.wish(open.id, "stop");
      }
    }
  }
  db.set_state("stopping");
  return now ? "the run stops; its running trials are aborted"
             : "the run stops with checkpoints; voxnas search --resume goes on";
}

}  // namespace nas
