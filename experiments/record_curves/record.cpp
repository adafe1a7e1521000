// SPDX-License-Identifier: Apache-2.0
// Records learning curves of networks on one data set (format: docs/formats.md, "curves"): every
// network is trained with equal compute under a constant rate, scored on the way with averaged
// weights, and finished (rate to 0) from some points. Races and other policies are replayed from
// the file in milliseconds.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include <torch/torch.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"
#include "nas/core/threads.h"
#include "nas/jobs/prepare.h"
#include "nas/network/graph.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/spaces.h"
#include "training/data/cases.h"
#include "training/fit/fit.h"
#include "training/fit/probe.h"
#include "training/inner_score.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string data, out;
  std::vector<std::string> networks;
  std::int64_t fold = 0, every = 25;
  double effort = 60;
  std::vector<double> finish = {10, 30, 60};
  std::uint64_t seed = 1;
  int threads = 0;
  bool costs = false;
};

/// One network of a space.
struct Contestant {
  std::string name, space, genotype;
};

/// From small to large, in the spaces that every data set has.
const std::vector<Contestant>& contestants() {
  static const std::vector<Contestant> list = {
      {"plan", "unet", ""},
      {"quarter width", "unet", "features=x0.25"},
      {"half width", "unet", "features=x0.5"},
      {"three quarters", "unet", "features=x0.75"},
      {"one and a half", "unet", "features=x1.5"},
      {"residual", "unet", "kind=residual blocks=1"},
      {"residual half", "unet", "kind=residual blocks=1 features=x0.5"},
      {"residual quarter", "unet", "kind=residual blocks=1 features=x0.25"},
      {"one block", "unet", "blocks=1 decoder_convs=1"},
      {"one block half", "unet", "blocks=1 decoder_convs=1 features=x0.5"},
      {"one block quarter", "unet", "blocks=1 decoder_convs=1 features=x0.25"},
      {"one less", "unet", "stages=-1"},
      {"one less half", "unet", "stages=-1 features=x0.5"},
      {"one less quarter", "unet", "stages=-1 features=x0.25"},
      {"two less half", "unet", "stages=-2 features=x0.5"},
      {"light decoder", "unet", "decoder_convs=1"},
      {"light decoder half", "unet", "decoder_convs=1 features=x0.5"},
      {"three blocks half", "unet", "blocks=3 features=x0.5"},
      {"c2fnas", "c2fnas", "start"},
      {"mixed unet", "mixed-unet", "start"},
  };
  return list;
}

/// "features=x0.5" and "stages=-1" are relative to the plan; the nearest value that the space has.
Genotype genotype_of(const SearchSpace& space, const std::string& text) {
  if (text == "start") return space.start();
  Genotype genotype = space.baseline();
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::string name = word.substr(0, word.find('=')), wish = word.substr(word.find('=') + 1);
    for (std::size_t g = 0; g < space.genes().size(); ++g) {
      const Gene& gene = space.genes()[g];
      if (gene.name != name) continue;
      const bool relative = wish[0] == 'x' || wish[0] == '-';
      const double planned = relative ? std::stod(gene.text(0)) : 0;
      const double wanted = wish[0] == 'x' ? planned * std::stod(wish.substr(1))
                            : relative     ? planned + std::stod(wish)
                                           : 0;
      double nearest = INFINITY;
      for (int v = 0; v < gene.count(); ++v) {
        const double gap = relative ? std::abs(std::stod(gene.text(v)) - wanted)
                                    : (gene.text(v) == wish ? 0 : INFINITY);
        if (gap < nearest) {
          nearest = gap;
          genotype.values[g] = v;
        }
      }
    }
  }
  return genotype;
}

Json scores_json(const std::vector<CaseMetrics>& cases) {
  Json scores = Json::array();
  for (const CaseMetrics& one : cases) {
    const auto dice = mean_metrics(std::span(&one, 1)).foreground.dice;
    scores.push_back(dice ? Json(std::round(*dice * 1e4) / 1e4) : Json(nullptr));
  }
  return scores;
}

/// What the recording of one network works with.
struct Recording {
  const Arguments& arguments;
  const Prepared& prepared;
  const CaseSelection& cases;
  double plan_work;

  double relative(const Graph& graph, const Extent3& patch) const {
    return training_work(graph, patch) / plan_work;
  }
  Json score(GraphModule& network,
             const TrainOptions& options,
             const std::vector<std::string>& ids) const {
    return scores_json(
        score_cached_cases(network, prepared.cache, ids, options.patch, predict_options(options)));
  }

  TrainOptions options(const Extent3& patch, std::int64_t steps) const {
    TrainOptions base;
    base.seed = arguments.seed;
    base.threads = arguments.threads;
    TrainOptions result = plan_training(prepared.configuration(),
                                        static_cast<std::int64_t>(cases.training.size()),
                                        {.steps = steps},
                                        {},
                                        base);
    result.batch = kSmallestBatch;
    result.patch = patch;
    result.mirror = false;
    return paused_at(result, steps);
  }

  Json point(std::int64_t steps, double cost) const {
    return {{"steps", steps},
            {"effort", std::round(static_cast<double>(steps) * cost * 100) / 100}};
  }

  Json record(const Graph& graph, const Extent3& patch) const;
  Json finish(const Graph& graph,
              const fs::path& checkpoint,
              const TrainOptions& stable,
              double cost) const;
};

/// The training that lies in `checkpoint`, brought to its end.
Json Recording::finish(const Graph& graph,
                       const fs::path& checkpoint,
                       const TrainOptions& stable,
                       double cost) const {
  GraphModule network(graph, stable.seed);
  const auto trainer = make_trainer(network, prepared.cache, cases.inner_training, stable);
  trainer->load(checkpoint);
  const std::int64_t done = trainer->steps();
  const auto steps =
      static_cast<std::int64_t>(std::ceil(static_cast<double>(done) / (1 - kDecayShare)));
  trainer->end_as(finished_at(stable, steps, done));
  FitFiles quiet;
  quiet.show_progress = quiet.tensorboard = false;
  trainer->run_until(steps, quiet);
  const Trainer::Scored scored(*trainer);
  Json json = point(steps, cost);
  json["inner"] = score(network, stable, cases.inner_validation);
  json["held_out"] = score(network, stable, cases.held_out);
  return json;
}

Json Recording::record(const Graph& graph, const Extent3& patch) const {
  const double cost = relative(graph, patch);
  const auto most = static_cast<std::int64_t>(arguments.effort / cost);
  const TrainOptions stable = options(patch, most);
  GraphModule network(graph, stable.seed);
  const auto trainer = make_trainer(network, prepared.cache, cases.inner_training, stable);
  const fs::path checkpoint = arguments.out + ".checkpoint";
  std::vector<std::int64_t> finishes;
  for (const double effort : arguments.finish) {
    finishes.push_back(std::min(most, static_cast<std::int64_t>(effort / cost)));
  }
  Json curve = Json::array(), decayed = Json::array();
  FitFiles quiet;
  quiet.show_progress = quiet.tensorboard = false;
  std::int64_t next = std::min(arguments.every, most);
  while (trainer->steps() < most) {
    std::int64_t stop = next;
    for (const std::int64_t f : finishes) {
      if (f > trainer->steps()) stop = std::min(stop, f);
    }
    trainer->run_until(stop, quiet);
    if (trainer->report().status != "done") break;
    if (stop == next) {
      const Trainer::Scored scored(*trainer);
      Json at = point(stop, cost);
      at["inner"] = score(network, stable, cases.inner_validation);
      curve.push_back(std::move(at));
      // Every so many steps, and further apart where the curve is flat.
      const std::int64_t wanted = std::max(stop + arguments.every, stop * 5 / 4);
      next = std::min(most, wanted / arguments.every * arguments.every);
    }
    if (std::find(finishes.begin(), finishes.end(), stop) != finishes.end()) {
      trainer->save(checkpoint);
      decayed.push_back(finish(graph, checkpoint, stable, cost));
    }
  }
  fs::remove(checkpoint);
  const Cost size = total_cost(first_output_only(graph), patch);
  return {{"parameters", size.parameters},
          {"macs", size.macs},
          {"relative_cost", cost},
          {"curve", curve},
          {"decayed", decayed}};
}

/// Measured steps beside what training_work says, interleaved.
void print_costs(const Recording& recording,
                 const std::vector<std::pair<std::string, Graph>>& all) {
  std::vector<std::vector<double>> seconds(all.size());
  const TrainOptions options = recording.options(recording.prepared.configuration().patch, 100);
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      seconds[i].push_back(
          probe(all[i].second, options, recording.prepared.data.labels, 3).seconds_per_step);
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double least = *std::min_element(seconds[i].begin(), seconds[i].end());
    const double plan = *std::min_element(seconds[0].begin(), seconds[0].end());
    const Cost cost = total_cost(all[i].second, options.patch);
    std::cout << all[i].first << "\t" << least << " s\t" << least / plan << " measured\t"
              << recording.relative(all[i].second, options.patch) << " forecast\t" << cost.macs
              << " macs\t" << cost.output_elements << " elements\t" << cost.parameters
              << " parameters\n";
  }
}

int run(const Arguments& arguments) {
  const PrepareOptions options{
      .data = arguments.data, .fold = arguments.fold, .how = {}, .threads = arguments.threads};
  Prepared prepared = open_fold(options);
  plan_fold(prepared, options);
  open_cache(prepared, options);
  const Configuration& planned = prepared.configuration();
  const CaseSelection cases = select_cases(prepared.split, 0.2, arguments.seed);
  const Recording recording{
      arguments, prepared, cases, training_work(make_unet(planned.architecture), planned.patch)};
  std::vector<std::pair<std::string, Graph>> networks;
  std::vector<Json> heads;
  for (const Contestant& contestant : contestants()) {
    if (!arguments.networks.empty() &&
        std::ranges::find(arguments.networks, contestant.name) == arguments.networks.end()) {
      continue;
    }
    const auto space = space_for_plan(contestant.space, planned);
    const Genotype genotype = genotype_of(*space, contestant.genotype);
    if (!space->invalid_reason(genotype).empty()) {
      log_info(contestant.name, ": left out: ", space->invalid_reason(genotype));
      continue;
    }
    Phenotype phenotype = space->build(genotype);
    const std::string id = graph_id(phenotype.graph);
    if (std::any_of(
            heads.begin(), heads.end(), [&](const Json& h) { return h["graph_id"] == id; })) {
      log_info(contestant.name, ": left out: the same network again");
      continue;
    }
    heads.push_back({{"name", contestant.name},
                     {"space", contestant.space},
                     {"genotype_text", space->to_text(genotype)},
                     {"graph_id", id}});
    networks.emplace_back(contestant.name, std::move(phenotype.graph));
  }
  if (arguments.costs) {
    print_costs(recording, networks);
    return 0;
  }
  Json file = {{"format", "voxnas.curves"},
               {"version", 1},
               {"data", prepared.data.name},
               {"training_cases", cases.training.size()},
               {"patch", planned.patch},
               {"seed", arguments.seed},
               {"command",
                concat_text("record_curves DATA --fold ",
                            arguments.fold,
                            " --effort ",
                            arguments.effort,
                            " --every ",
                            arguments.every)},
               {"plan", 0},
               {"inner_cases", cases.inner_validation},
               {"held_out_cases", cases.held_out},
               {"networks", Json::array()}};
  if (fs::exists(arguments.out)) file = read_json(arguments.out);  // goes on
  const Stopwatch watch;
  for (std::size_t i = 0; i < networks.size() && !stop_requested(); ++i) {
    const auto same = [&](const Json& known) { return known["graph_id"] == heads[i]["graph_id"]; };
    if (std::ranges::any_of(file["networks"], same)) continue;
    Json entry = heads[i];
    entry.update(recording.record(networks[i].second, planned.patch));
    if (stop_requested()) break;
    log_info(networks[i].first,
             ": ",
             i + 1,
             " of ",
             networks.size(),
             " after ",
             format_duration(watch.seconds()));
    file["networks"].push_back(std::move(entry));
    write_file_atomic(arguments.out, file.dump());
  }
  return 0;
}

}  // namespace
}  // namespace nas

int main(int argc, char** argv) {
  nas::Arguments a;
  CLI::App app("Learning curves of networks on a data set, for replays");
  app.add_option("DATA", a.data, "data set folder")->required();
  app.add_option("-o", a.out, "file; a recording that was stopped goes on")->required();
  app.add_option("--fold", a.fold, "fold whose validation cases are held out");
  app.add_option("--effort", a.effort, "compute of each network, in steps of the plan at batch 2");
  app.add_option("--finish", a.finish, "efforts from which a training is finished");
  app.add_option("--networks", a.networks, "names of contestants; default: all")->delimiter(',');
  app.add_option("--every", a.every, "steps between scorings, at least");
  app.add_option("--seed", a.seed);
  app.add_option("--threads", a.threads);
  app.add_flag("--costs", a.costs, "print measured and forecast costs instead");
  CLI11_PARSE(app, argc, argv);
  try {
    nas::install_stop_handler();
    return nas::run(a);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
