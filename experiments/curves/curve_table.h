// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// Scores of one training after so much of it.
struct RecordedPoint {
  double steps = 0, effort = 0;  // effort in training steps of the plan at batch 2
  std::vector<double> inner;     // of each inner validation case; NaN where a case has none
  std::vector<double> held_out;  // of each held-out case; of a point of `curve` maybe empty
};

struct RecordedNetwork {
  std::string name, genotype_text;
  std::int64_t parameters = 0, macs = 0;
  double relative_cost = 1;            // effort of a step
  std::vector<RecordedPoint> curve;    // averaged weights under the constant rate, by effort
  std::vector<RecordedPoint> decayed;  // what a training gives that is finished with this effort
                                       // in all (rate to 0), by effort
};

/// Trainings of many networks on one data set, recorded once; every search policy can be replayed
/// on them (replay.h). In the file:
///   {"format": "voxnas.curves", "version": 1, "data": "Task04_Hippocampus, fold 0",
///    "command": "...", "plan": 0, "inner_cases": ["..."], "held_out_cases": ["..."],
///    "networks": [{"name": "plan", "genotype_text": "...", "parameters": 1, "macs": 1,
///      "relative_cost": 1, "curve": [{"steps": 25, "effort": 25, "inner": [0.5],
///      "held_out": [0.5]}], "decayed": []}]}
/// More keys for people: "patch", "seed", "training_cases"; of a network "graph_id", "space". Where
/// a curve has no "held_out", the points of "decayed" alone say what is delivered.
struct CurveTable {
  std::string data, command;
  std::size_t plan = 0;  // which network is the plan
  std::vector<std::string> inner_cases, held_out_cases;
  std::vector<RecordedNetwork> networks;
};

Json to_json(const CurveTable& table);
/// \throws Error(Input|Usage) naming the key: wrong or missing keys, numbers out of range, points
/// that are not in order of effort, lists that are not as long as the cases.
CurveTable curve_table_from_json(const Json& value, const std::string& where);
/// A file of at most 64 MiB. \throws Error(Io|Input|Usage).
CurveTable read_curve_table(const std::filesystem::path& file);

/// Mean of the values that are finite; NaN if none is.
double mean_score(const std::vector<double>& cases);

/// Scores of the inner cases of a network whose training has had this effort: between points linear
/// in the logarithm of effort, before the first in proportion to effort, after the last as the
/// last.
std::vector<double> inner_scores(const RecordedNetwork& network, double effort);
/// Mean score of the held-out cases of a training that is finished with this effort in all: the
/// curve, and what the end of the training adds where that was recorded (0 where it never was).
double delivered_score(const RecordedNetwork& network, double effort);
/// What the end of a training adds to the mean inner score.
double inner_finish(const RecordedNetwork& network, double effort);

}  // namespace nas
