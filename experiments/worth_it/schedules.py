#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does a schedule whose end is open cost anything? The same network trained for equal steps under the schedule rule's
warm-up, stable, decay and under a cosine (warm-up over 5 % of the steps, weights averaged over the last 5 %), case by case on
the held-out fold.

  experiments/worth_it/schedules.py DATA... -o FOLDER [--steps 300] [--seeds 3] [--width 0.25]

Runs lie in FOLDER and are never repeated: a stopped measurement goes on. Prints the table in Markdown and writes
FOLDER/schedules.md. Standard library alone; VOXNAS names the program (build/release/voxnas)."""
import argparse
import json
import pathlib
import subprocess
import sys

from paired import dice_by_case, difference_text, mean_dice, run_tables, voxnas

SCHEDULES = ["open end", "cosine"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25, help="of the planned network's features; 1: the plan itself")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only-table", action="store_true", help="no run; the table of what is there")
    return parser.parse_args()


def options(schedule, steps):
    chosen = {"batch": 2, "mirror": False}
    if schedule == "cosine":
        average = 0 if steps < 100 else min(0.999, 1 - 1 / (0.05 * steps))
        chosen |= {"schedule": "cosine", "warmup_fraction": 0.05, "warmup_steps": 0, "average_decay": average}
    return chosen


def network(args, data):
    """The planned network of this width, as a graph file."""
    file = args.output / f"{data.name}_x{args.width:g}.json"
    if not file.exists():
        plan = subprocess.run([voxnas(), "plan", str(data), "--json"], check=True, capture_output=True).stdout
        plans = pathlib.Path(f"{file}.plans")
        plans.write_bytes(plan)
        planned = json.loads(plan)["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"][0]
        classes = len(json.loads((data / "dataset.json").read_text())["labels"])
        subprocess.run([voxnas(), "inspect", str(plans), "--classes", str(classes), "--genotype",
                        f"features={round(planned * args.width)}", "--save", str(file)], check=True, capture_output=True)
    return file


def train(args, data, schedule, seed):
    """Dice of the held-out cases of the finished run, or None."""
    folder = args.output / f"{data.name}_{schedule.replace(' ', '_')}_{args.steps}_x{args.width:g}_{seed}"
    metrics = folder / "metrics.json"
    if not metrics.exists():
        if args.only_table:
            return None
        chosen = pathlib.Path(f"{folder}.json")
        chosen.write_text(json.dumps(options(schedule, args.steps)))
        command = [voxnas(), "train", str(data), "--steps", str(args.steps), "--fold", str(args.fold), "--seed", str(seed),
                   "--network", str(network(args, data)), "--options", str(chosen), "--threads", str(args.threads),
                   "-o", str(folder)]
        if (folder / "training.json").exists():
            command = [voxnas(), "train", "--resume", "-o", str(folder)]
        print(" ".join(command), file=sys.stderr)
        with open(f"{folder}.log", "w") as log:
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode != 0:
                print(f"{folder.name}: {open(log.name).read().strip().splitlines()[-1]}", file=sys.stderr)
                return None
    return dice_by_case(json.loads(metrics.read_text())["cases"])


def rows(args):
    for data in args.data:
        runs = {schedule: {} for schedule in SCHEDULES}
        for seed in range(1, args.seeds + 1):
            for schedule in SCHEDULES:
                dice = train(args, data, schedule, seed)
                if dice:
                    runs[schedule][seed] = dice
        common = sorted(set(runs["open end"]) & set(runs["cosine"]))
        if common:
            both = [[runs[schedule][seed] for seed in common] for schedule in SCHEDULES]
            yield [data.name, str(args.steps), str(len(common))] + [f"{mean_dice(one):.4f}" for one in both] + [difference_text(*both)]


def markdown(table):
    lines = ["| data | steps | seeds | warm-up, stable, decay | cosine | difference, 95 % interval |", "|---|---:|---:|---:|---:|---|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in table]) + "\n"


def main():
    args = parse()
    run_tables(args, rows, markdown, "schedules")


if __name__ == "__main__":
    main()
