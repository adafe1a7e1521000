#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is a search worth its time? Runs recipes on data sets at several efforts and seeds, and compares what each delivers with
the planned network that had all of the effort, case by case on the held-out fold.

  experiments/worth_it/worth_it.py DATA... -o FOLDER [--effort 60,250,1000] [--seeds 3] [--recipe auto,random]

Runs lie in FOLDER and are never repeated: a stopped measurement goes on. Prints the table in Markdown, and writes
FOLDER/worth_it.md and FOLDER/worth_it.svg. The interval of a difference is a bootstrap over cases (all seeds of a case stay
together). Standard library alone; VOXNAS names the program (build/release/voxnas)."""
import argparse
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys

from paired import dice_by_case, difference_text, mean_dice, run_tables, voxnas


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path)
    parser.add_argument("--effort", default="60,250,1000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", default="auto,random,c2fnas,vnas,combined")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--only-table", action="store_true", help="no run; the table of what is there")
    return parser.parse_args()


def split_recipe(recipe):
    """'auto:smallest' is recipe auto with --goal smallest."""
    name, _, goal = recipe.partition(":")
    return name, ["--goal", goal] if goal else []


def search(args, data, recipe, effort, seed):
    """Folder of the finished run, or None."""
    folder = args.output / f"{data.name}_{recipe.replace(':', '_')}_{effort}_{seed}"
    if (folder / "report.html").exists():
        return folder
    if args.only_table:
        return None
    name, more = split_recipe(recipe)
    if folder.exists() and (folder / "results.sqlite").exists():
        command = [voxnas(), "search", "--resume", str(folder)]
    else:
        command = [voxnas(), "search", str(data), "--recipe", name, "--effort", effort, "--seed", str(seed), "--fold",
                   str(args.fold), "-o", str(folder)] + more
    print(" ".join(command), file=sys.stderr)
    with open(f"{folder}.log", "w") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        print(f"{folder.name}: {open(log.name).read().strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return folder


def outcome(folder):
    """What a run delivered: Dice by case and class, size."""
    data = json.loads(subprocess.run([voxnas(), "report", str(folder), "--json"], check=True, capture_output=True).stdout)
    trial = data["final"][data["delivered"]]
    return {"dice": dice_by_case(trial["cases"]), "parameters": trial["parameters"], "macs": trial["macs"],
            "network": trial.get("network", "")}


def rows(args):
    for data in args.data:
        for effort in args.effort.split(","):
            runs = {}
            for recipe in ["plan"] + args.recipe.split(","):
                for seed in range(1, args.seeds + 1):
                    folder = search(args, data, recipe, effort, seed)
                    if folder:
                        runs.setdefault(recipe, {})[seed] = outcome(folder)
            plan = runs.get("plan", {})
            for recipe, seeds in runs.items():
                found = [seeds[s] for s in sorted(seeds)]
                row = {"data": data.name, "effort": float(effort), "recipe": recipe, "seeds": len(found),
                       "dice": mean_dice([run["dice"] for run in found]), "runs": [mean_dice([run["dice"]]) for run in found],
                       "parameters": statistics.median(run["parameters"] for run in found),
                       "macs": statistics.median(run["macs"] for run in found)}
                common = sorted(set(seeds) & set(plan))
                if recipe != "plan" and common:
                    row["difference"] = difference_text([seeds[s]["dice"] for s in common], [plan[s]["dice"] for s in common])
                    row["macs_of_plan"] = row["macs"] / plan[common[0]]["macs"]
                    row["parameters_of_plan"] = row["parameters"] / plan[common[0]]["parameters"]
                yield row


def markdown(table):
    lines = ["| data | effort | recipe | seeds | Dice | against the plan alone, 95 % interval | parameters | multiply-adds |",
             "|---|---:|---|---:|---:|---|---:|---:|"]
    for row in table:
        if "difference" in row:
            against = row["difference"]
            size = f"{100 * row['parameters_of_plan']:.1f} % | {100 * row['macs_of_plan']:.1f} %"
        else:
            against, size = "", f"{row['parameters'] / 1e6:.2f} M | {row['macs'] / 1e9:.2f} G"
        lines.append(f"| {row['data']} | {row['effort']:g} | {row['recipe']} | {row['seeds']} | {row['dice']:.4f} | {against} | "
                     f"{size} |")
    return "\n".join(lines) + "\n"


COLORS = {"plan": "#d9822b", "auto": "#1f6fb2"}


def picture(table):
    """Dice over effort (logarithmic), one panel a data set."""
    names = list(dict.fromkeys(row["data"] for row in table))
    width, height, margin = 380, 260, 50
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(names)}" height="{height + 30}" '
           'font-family="sans-serif" font-size="12">']
    for panel, name in enumerate(names):
        mine = [row for row in table if row["data"] == name]
        scores = [score for row in mine for score in row["runs"]]
        low, high = min(scores) - 0.005, max(scores) + 0.005
        efforts = sorted({row["effort"] for row in mine})
        span = math.log(efforts[-1] / efforts[0]) or 1
        x = lambda e: panel * width + margin + (width - 2 * margin) * (math.log(e / efforts[0]) / span if len(efforts) > 1 else 0.5)
        y = lambda d: 25 + (height - 60) * (high - d) / (high - low)
        title = re.sub("[<&>]", "", name)
        svg.append(f'<text x="{panel * width + margin}" y="15" font-weight="bold">{title}</text>')
        for tick in range(4):
            d = low + (high - low) * tick / 3
            svg.append(f'<text x="{panel * width + 4}" y="{y(d) + 4:.1f}" fill="#555">{d:.3f}</text>'
                       f'<line x1="{panel * width + margin}" x2="{(panel + 1) * width - 10}" y1="{y(d):.1f}" y2="{y(d):.1f}" stroke="#eee"/>')
        for e in efforts:
            svg.append(f'<text x="{x(e) - 8:.1f}" y="{height - 15}" fill="#555">{e:g}</text>')
        for i, recipe in enumerate(dict.fromkeys(row["recipe"] for row in mine)):
            color = COLORS.get(recipe, ["#7a9e3f", "#8b62a8", "#b0485c", "#4a9a94", "#777"][i % 5])
            points = sorted((row["effort"], row["dice"]) for row in mine if row["recipe"] == recipe)
            path = " ".join(f"{x(e):.1f},{y(d):.1f}" for e, d in points)
            svg.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            for row in mine:
                if row["recipe"] == recipe:
                    svg += [f'<circle cx="{x(row["effort"]):.1f}" cy="{y(d):.1f}" r="3" fill="{color}"/>' for d in row["runs"]]
            svg.append(f'<text x="{panel * width + margin + 70 * (i % 4)}" y="{height + 5 + 15 * (i // 4)}" fill="{color}">{recipe}</text>')
    svg.append("</svg>\n")
    return "\n".join(svg)


def main():
    args = parse()
    table = run_tables(args, rows, markdown, "worth_it")
    (args.output / "worth_it.svg").write_text(picture(table))


if __name__ == "__main__":
    main()
