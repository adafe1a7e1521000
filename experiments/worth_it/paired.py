# SPDX-License-Identifier: Apache-2.0
"""Dice of trained networks on the same held-out cases, and their difference with an interval. What a training scored is
{(case, class): Dice}; only cases that have the class are in it."""
import os
import pathlib
import random
import statistics
import sys

REPEATS = 4000


def voxnas():
    return os.environ.get("VOXNAS", str(pathlib.Path(__file__).parents[2] / "build/release/voxnas"))


def dice_by_case(cases):
    """Of the cases of a metrics.json or of a report."""
    return {(case["id"], k): one["dice"] for case in cases for k, one in enumerate(case["classes"])
            if one.get("dice") is not None}


def mean_dice(runs, cases=None):
    """nnU-Net's mean: over the cases of a class, then over classes; then over runs. `cases`: how often each counts."""
    means = []
    for dice in runs:
        classes = {}
        for (case, k), value in dice.items():
            for _ in range(1 if cases is None else cases.get(case, 0)):
                classes.setdefault(k, []).append(value)
        if classes:
            means.append(statistics.fmean(statistics.fmean(values) for values in classes.values()))
    return statistics.fmean(means)


def difference(found, other):
    """Mean difference of two lists of runs and its 95 % interval: bootstrap over cases, all runs of a case together."""
    cases = sorted({case for dice in found + other for case, _ in dice})
    rng = random.Random(1)
    draws = []
    for _ in range(REPEATS):
        chosen = {}
        for case in rng.choices(cases, k=len(cases)):
            chosen[case] = chosen.get(case, 0) + 1
        draws.append(mean_dice(found, chosen) - mean_dice(other, chosen))
    draws.sort()
    return mean_dice(found) - mean_dice(other), draws[int(0.025 * REPEATS)], draws[int(0.975 * REPEATS)]


def difference_text(found, other):
    mean, low, high = difference(found, other)
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def run_tables(args, rows, markdown, name):
    """What the commands of this folder do: the rows of their table, printed and kept as FOLDER/NAME.md; returns the rows."""
    args.output.mkdir(parents=True, exist_ok=True)
    table = list(rows(args))
    if not table:
        sys.exit("no finished run")
    text = markdown(table)
    print(text)
    (args.output / f"{name}.md").write_text(text)
    return table
