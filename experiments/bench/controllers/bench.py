#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our controllers against Optuna's on known functions: medians of the regret, ratios, milliseconds a suggestion.

usage: bench.py BUILD [--trials 60] [--seeds 20]

BUILD holds experiments/bench/controllers/controllers_regret. Optuna is installed from PyPI into BUILD/peers (a virtual
environment, made once); where that cannot be done this says so and ends with 1. torch and scipy, which its GP needs, are
taken from voxnas's private environment where they are there. One thread each, one after the other, in one run; processor
time. Prints a
Markdown table. Bars: the gp's median regret at most 2 times that of Optuna's, the tpe's at most 1.2 times, time a
suggestion at most a tenth.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

OPTUNA = "optuna==5.0.0"
BARS = {"gp": 2.0, "tpe": 1.2}
TIME_BAR = 0.1
HERE = Path(__file__).resolve().parent


def private_packages():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxnas" / "env" / "lib"
    return sorted(cache.glob("python3*/site-packages/torch"))


def peers_python(build):
    env = build / "peers"
    python = env / "bin" / "python"
    if (env / "complete").is_file():
        return python
    print(f"bench-controllers: making {env} with {OPTUNA}", file=sys.stderr)
    wanted = [OPTUNA, "scipy"]
    torch = private_packages()
    if not torch:
        wanted.append("torch")
    for command in ([sys.executable, "-m", "venv", "--clear", str(env)], [str(python), "-m", "pip", "install", "-q", *wanted]):
        if subprocess.run(command).returncode != 0:
            sys.exit(f"bench-controllers: `{' '.join(command)}` failed: without Optuna there is nothing to compare with")
    if torch:
        site = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip()
        (Path(site) / "zz_torch.pth").write_text(f"{torch[-1].parent}\n")
    if subprocess.run([python, "-c", "import optuna, torch, scipy"]).returncode != 0:
        sys.exit(f"bench-controllers: {env} was made, but Optuna, torch or scipy cannot be imported from it")
    (env / "complete").touch()
    return python


def measured(command):
    env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    found = {}
    for line in subprocess.check_output(command, env=env, text=True).splitlines():
        row = json.loads(line)
        found.setdefault((row["kind"].removeprefix("optuna "), row["problem"]), []).append(row)
    return found


def middle(rows, key):
    return statistics.median(row[key] for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    program = args.build / "experiments" / "bench" / "controllers" / "controllers_regret"
    if not program.is_file():
        sys.exit(f"bench-controllers: {program}: not built")
    size = [str(args.trials), str(args.seeds)]
    ours = measured([program, "tpe,gp,rl,regularized,nsga2,random", *size])
    theirs = measured([peers_python(args.build), HERE / "peers.py", "tpe,gp,random", *size])
    print(f"Median regret after {args.trials} trials, {args.seeds} seeds; ms a suggestion.\n")
    print("| problem | controller | regret | Optuna 5.0.0 | ratio | bar | ms | Optuna | ratio |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    missed = 0
    for kind, problem in sorted(ours, key=lambda key: (key[1], list(BARS).index(key[0]) if key[0] in BARS else 9, key[0])):
        regret, ms = middle(ours[kind, problem], "regret"), middle(ours[kind, problem], "ms")
        cells = [problem, kind, f"{regret:.3g}", "", "", "", f"{ms:.3f}", "", ""]
        if peer := theirs.get((kind, problem)):
            other, other_ms = middle(peer, "regret"), middle(peer, "ms")
            cells[3:5] = [f"{other:.3g}", f"{regret / other:.2f}"]
            cells[7:9] = [f"{other_ms:.2f}", f"{ms / other_ms:.3f}"]
            if kind in BARS:
                cells[5] = f"<= {BARS[kind]}"
                missed += (regret / other > BARS[kind]) + (ms / other_ms > TIME_BAR)
        print("| " + " | ".join(cells) + " |")
    print(f"\nBars missed: {missed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
