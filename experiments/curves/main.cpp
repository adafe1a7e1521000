// SPDX-License-Identifier: Apache-2.0
// The tabular benchmark: replays search policies on recorded learning curves.
#include <CLI/CLI.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "experiments/curves/learnt_prior.h"
#include "experiments/curves/replay.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/jobs/strategies/strategies.h"

namespace nas {
namespace {

struct Arguments {
  std::vector<std::string> files, policies;
  std::vector<double> efforts{60, 125, 250, 500, 1000, 2000};
  std::int64_t seeds = 200;
  std::string picture;
};

void run_replay(const Arguments& a) {
  const std::vector<Policy> known = replay_policies(strategy_kinds());
  std::vector<Policy> policies;
  for (const std::string& name : a.policies) policies.push_back(policy_named(known, name));
  if (policies.empty()) policies = known;
  for (std::size_t i = 0; i < a.files.size(); ++i) {
    const CurveTable table = read_curve_table(a.files[i]);
    const auto summaries = replay_all(table, policies, a.efforts, a.seeds);
    std::cout << (i > 0 ? "\n" : "") << replay_markdown(table, summaries);
    if (!a.picture.empty()) write_file_atomic(a.picture, replay_svg(table, summaries));
  }
}

void run_prior(const Arguments& a) {
  std::vector<CurveTable> tables;
  for (const std::string& file : a.files) tables.push_back(read_curve_table(file));
  std::cout << prior_markdown(tables, learn_prior(tables));
}

int run(int argc, char** argv) {
  CLI::App app{"Learning curves of many networks, and what searches would have made of them",
               "curves"};
  app.require_subcommand(1);
  Arguments a;
  CLI::App* replay = app.add_subcommand(
      "replay", "Regret of search policies on recorded curves, as a table and a picture");
  replay->add_option("FILE", a.files, "Recorded curves (voxnas.curves)")->required();
  replay->add_option("--effort", a.efforts, "Efforts, in training steps of the plan at batch 2")
      ->delimiter(',')
      ->check(CLI::Range(1.0, 1e9));
  replay->add_option("--seeds", a.seeds, "Seeds of each policy")->check(CLI::Range(1, 100000));
  replay->add_option("--policy", a.policies, "Policies; all if left out")->delimiter(',');
  replay->add_option("--picture", a.picture, "SVG file for the picture");
  CLI::App* prior = app.add_subcommand(
      "prior", "What recorded curves tell of learning curves, beside the figures in use");
  prior->add_option("FILE", a.files, "Recorded curves (voxnas.curves)")->required();
  try {
    app.parse(argc, argv);
    if (prior->parsed()) {
      run_prior(a);
      return 0;
    }
    NAS_CHECK_KIND(Usage,
                   a.picture.empty() || a.files.size() == 1,
                   "--picture shows one file of curves, found ",
                   a.files.size());
    run_replay(a);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << '\n';
    return error.kind() == ErrorKind::Usage ? 2 : 1;
  }
  return 0;
}

}  // namespace
}  // namespace nas

int main(int argc, char** argv) { return nas::run(argc, argv); }
