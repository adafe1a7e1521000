#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Minimises the problems of problems.h with Optuna's samplers; prints lines like controllers_regret.

usage: peers.py SAMPLER[,SAMPLER...] TRIALS SEEDS     samplers: random, tpe, gp
"""
import json
import math
import sys
import time
import warnings

import optuna

HARTMANN_A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
HARTMANN_P = [[0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886], [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
              [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650], [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381]]


def branin(trial):
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    a = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return a * a + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(trial):
    x = [trial.suggest_float(f"x{i}", 0, 1) for i in range(6)]
    inner = [sum(a * (v - p) ** 2 for a, v, p in zip(row, x, at)) for row, at in zip(HARTMANN_A, HARTMANN_P)]
    return -sum(c * math.exp(-s) for c, s in zip((1.0, 1.2, 3.0, 3.2), inner))


def mixed(trial):
    kind = ("sgd", "adam", "adamw", "muon").index(trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw", "muon"]))
    rate, decay = trial.suggest_float("rate", 1e-5, 1e-1, log=True), trial.suggest_float("decay", 1e-6, 1e-2, log=True)
    layers, dropout = trial.suggest_int("layers", 1, 8), trial.suggest_float("dropout", 0, 0.5)
    off = math.log10(rate) - (-1.5, -3, -3.2, -2)[kind]
    return ((0.03, 0.01, 0, 0.02)[kind] + 0.05 * off * off + 0.01 * (math.log10(decay) + 4) ** 2
            + 0.004 * (layers - 5) ** 2 + 0.3 * (dropout - 0.15) ** 2 + 0.01 * off * (layers - 5) * 0.5)


PROBLEMS = {"branin": (branin, 0.39788735772973816), "hartmann6": (hartmann6, -3.322368011391339), "mixed": (mixed, 0)}
SAMPLERS = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}


def run(problem, sampler, trials, seed):
    function, minimum = PROBLEMS[problem]
    study = optuna.create_study(sampler=SAMPLERS[sampler](seed=seed))
    began = time.process_time()
    study.optimize(function, n_trials=trials)
    return {"problem": problem, "kind": "optuna " + sampler, "seed": seed, "regret": study.best_value - minimum,
            "ms": 1000 * (time.process_time() - began) / trials}


def main():
    if len(sys.argv) != 4 or any(s not in SAMPLERS for s in sys.argv[1].split(",")):
        print(__doc__, file=sys.stderr)
        return 2
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    for sampler in sys.argv[1].split(","):
        for problem in PROBLEMS:
            for seed in range(int(sys.argv[3])):
                print(json.dumps(run(problem, sampler, int(sys.argv[2]), seed)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
