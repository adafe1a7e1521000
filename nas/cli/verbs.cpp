// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/verbs.h"

namespace nas {
namespace {

constexpr Verb kVerbs[] = {
    {"doctor",
     "Check a data set: files, grids, labels, values, copies, outliers",
     "voxnas doctor data/Task04_Hippocampus",
     false},
    {"plan",
     "Plan spacing, patch, batch and baseline network by nnU-Net's rules",
     "voxnas plan data/Task04_Hippocampus --planner resenc-m",
     false},
    {"train",
     "Train one network, the planned one by default, and score it on the held-out fold",
     "voxnas train data/Task04_Hippocampus --fold 0 --budget 10m -o RUN",
     true},
    {"predict",
     "Segment images with a trained model",
     "voxnas predict RUN/model data/Task04_Hippocampus/imagesTs predictions",
     true},
    {"evaluate",
     "Score predictions against references: Dice, HD95, HD, NSD",
     "voxnas evaluate predictions data/Task04_Hippocampus/labelsTr -o metrics.json",
     false},
    {"search",
     "Find and train the best network that a budget can buy",
     "voxnas search data/Task04_Hippocampus --fold 0 --budget 20m -o RUN",
     true},
    {"worker",
     "Carry out trials of a search that another process leads, beside its own workers",
     "voxnas worker --run RUN --device cuda:1",
     true},
    {"lead",
     "Go on with a search as its leader: decide what is tried, while workers train",
     "voxnas lead RUN --workers 0:1",
     false},
    {"runs",
     "List the runs of folders or of one results database, and compare them",
     "voxnas runs --db lab.sqlite",
     false},
    {"ctl",
     "Look at a run and steer it while it works: workers, trials, abort, suspend, stop",
     "voxnas ctl RUN trials --best 5",
     false},
    {"automl",
     "Search the settings of a training: our description, or Clara Train's configuration as it "
     "lies",
     "voxnas automl training.json --data data/Task04_Hippocampus --trials 8 -o RUN",
     true},
    {"report",
     "Write the report of a search: one HTML file, Markdown or JSON",
     "voxnas report RUN",
     false},
    {"inspect",
     "Shapes, parameters, multiply-adds, memory and a drawing of a network",
     "voxnas inspect RUN/model --input 1x40x56x40 --svg network.svg",
     false},
    {"export",
     "Write a trained model in a form that other software reads",
     "voxnas export RUN/model --to onnx -o liver.onnx",
     true},
    {"tables",
     "The papers' tables: published figures, ours, the difference and how it came about",
     "voxnas tables search-cost",
     false},
    {"phantom",
     "Make up a data set of organs, as large as you like, from a seed",
     "voxnas phantom /tmp/Phantom --cases 12 --size 40x48x40 --seed 1",
     false},
    {"import",
     "Take over a model that other software trained",
     "voxnas import nnunet nnUNet_results/Dataset004_Hippocampus/"
     "nnUNetTrainer__nnUNetPlans__3d_fullres -o MODEL",
     true},
};

}  // namespace

std::span<const Verb> verbs() { return kVerbs; }

}  // namespace nas
