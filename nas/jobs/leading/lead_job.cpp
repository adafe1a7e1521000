// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/lead_job.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/core/run_folder.h"
#include "nas/jobs/leading/lead_search.h"
#include "nas/jobs/leading/run_lock.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/network/file_nodes.h"
#include "nas/results/run_database.h"
#include "nas/search/recipe.h"
#include "nas/search/worker_list.h"
#include "search_spaces/config_space/config_space.h"
#include "search_spaces/network_costs.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/spaces.h"

namespace nas {
namespace {

/// Knows what networks cost, and trains none.
class Costs : public Evaluator {
 public:
  Costs(const SearchSpace& space, const Configuration& planned)
      : costs_(space, planned.patch, planned.batch) {}
  TrialCost describe(const Genotype& genotype) override { return costs_.of(genotype); }
  Probe probe(const Genotype&, TrialPurpose) override { refuse(); }
  TrialPlan plan(const Trial&) override { refuse(); }
  Evaluation evaluate(const Trial&, const TrialContext&) override { refuse(); }
  // What workers and the leader before have measured.
  std::string measured() const override { return measured_; }
  void restore(const std::string& measured) override { measured_ = measured; }

 private:
  [[noreturn]] static void refuse() {
    fail(ErrorKind::Internal, "a leader without LibTorch was asked to train");
  }
  NetworkCosts costs_;
  std::string measured_;
};

void check_can_lead(const RunFolder& folder, const RunRecord& run, const Recipe& recipe) {
  const std::string go_on =
      concat_text("; go on with `voxnas search --resume ", folder.text(), "`");
  NAS_CHECK_KIND(Usage,
                 !run.budget.has_clock(),
                 folder.text(),
                 ": has a budget in time, whose leader measures how fast networks are",
                 go_on);
  NAS_CHECK_KIND(Usage,
                 !measures_step_times(recipe),
                 folder.text(),
                 ": limits or compares step times, which its leader measures",
                 go_on);
  for (const StageSpec& stage : recipe.stages) {
    NAS_CHECK_KIND(Usage,
                   !stage.kind->starts_programs,
                   folder.text(),
                   ": stage ",
                   stage.name,
                   " is decided by a program of yours",
                   go_on);
  }
}

/// A network that is a file of the user's can only be looked into with LibTorch.
void check_networks(const RunFolder& folder, const SearchSpace& space) {
  std::vector<Genotype> genotypes{space.baseline(), space.start()};
  if (const auto* described = dynamic_cast<const ConfigSpace*>(&space)) {
    genotypes = described->probes();
  }
  for (const Genotype& genotype : genotypes) {
    if (!space.invalid_reason(genotype).empty()) continue;
    NAS_CHECK_KIND(Usage,
                   file_node(space.build(genotype).graph) == nullptr,
                   folder.text(),
                   ": has networks that are TorchScript files; go on with `voxnas search --resume ",
                   folder.text(),
                   "`");
  }
}

/// Without LibTorch: by the driver's device files.
int nvidia_devices() {
  int count = 0;
  while (std::filesystem::exists(concat_text("/dev/nvidia", count))) ++count;
  return count;
}

/// Workers of the run that live, started by whomever.
std::int64_t living(const TrialStore& store) {
  return std::ranges::count_if(store.workers(), &WorkerRecord::alive);
}

}  // namespace

SearchEnd lead_run(const LeadJob& job) {
  const RunFolder folder(job.run_folder);
  NAS_CHECK_KIND(Usage,
                 has_database(folder),
                 folder.text(),
                 ": expected a run folder of a search that has begun, found none");
  check_audience(job.audience);
  const RunLock lock(folder);
  remove_temporaries(folder.path());  // of killed writers
  ResultsDb db = open_to_write(folder);
  const std::string where = db.file().string();
  const RunRecord run = db.run();
  check_code_version(folder,
                     run,
                     job.code_version,
                     concat_text("; go on with `voxnas search --resume ", folder.text(), "`"));
  const Recipe recipe =
      recipe_from_json(parse_json(run.recipe_json, where), where, strategy_kinds());
  check_can_lead(folder, run, recipe);
  const Json setup_json = parse_json(run.setup_json, where);
  const JsonReader reader(setup_json, where);
  const std::unique_ptr<SearchSpace> space = make_space(parse_json(run.space_json, where));
  check_networks(folder, *space);
  const Plan plan = plan_from_json(parse_json(run.plan_json, where), where);
  Costs costs(*space, plan.configurations.front());
  const auto recorded = [&](const char* key) {
    return reader.has(key) ? reader.at(key).text() : std::string{};
  };
  const std::string executor = recorded("executor");
  NAS_CHECK_KIND(Usage,
                 executor.empty(),
                 folder.text(),
                 ": its trials are carried out by the program \"",
                 executor,
                 "\"; go on with `voxnas search --resume ",
                 folder.text(),
                 " --executor ...`");
  const std::string devices = job.workers.empty() ? recorded("workers") : job.workers;

  LedSearch led;
  led.space = space.get();
  led.evaluator = &costs;
  led.recipe = recipe;
  led.clock = [] { return 0.0; };
  led.audience = make_audience(*space, folder.path(), job.audience);
  if (!devices.empty()) led.devices = parse_workers(devices, nvidia_devices());
  led.threads = static_cast<int>(reader.at("threads").integer(0, 4096));
  led.others = [&] { return std::max<std::int64_t>(1, living(db)); };
  led.go_on = "voxnas lead " + folder.text();
  if (devices.empty() && living(db) == 0) {
    log_info("waiting for workers: voxnas worker --run ", folder.text());
  }
  return lead_search(std::move(led), db, folder);
}

}  // namespace nas
