#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the hashes of the pinned packages into scripts/requirements*.txt; run it after a change of versions.

Hashes of the wheels that pip takes for Python 3.10 to 3.13 on Linux (x86_64, aarch64; older and newer glibc), as the index
tells them: nothing but metadata is downloaded. Comments and pins stay as they are.
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES_ONLY = ("nnunetv2", "acvl-utils")  # as in setup.sh
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
GLIBC = (39, 28)  # the newest that systems of today have, and an old one


def chosen(pins, python, machine, glibc):
    """{package: sha256} of what pip would install, or {} where something has no wheel."""
    platforms = [f"manylinux_2_{n}_{machine}" for n in range(glibc, 16, -1)] + [f"manylinux2014_{machine}"]
    if machine == "x86_64":
        platforms += [f"manylinux_2_{n}_x86_64" for n in range(16, 4, -1)] + ["manylinux2010_x86_64", "manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "--no-deps",
               "--ignore-installed", "--disable-pip-version-check", "--no-input", "--only-binary=:all:",
               "--no-build-isolation", f"--no-binary={','.join(SOURCES_ONLY)}", "--python-version", python,
               *(word for p in platforms for word in ("--platform", p))]
    with tempfile.TemporaryDirectory() as target:
        done = subprocess.run([*command, "--target", target, *pins], capture_output=True, text=True)
    if done.returncode:
        print(f"  Python {python}, {machine}, glibc 2.{glibc}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    report = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{"):])[0]
    return {re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["download_info"]["archive_info"]["hashes"]["sha256"]
            for item in report["install"]}


def lock(file):
    pin = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s\\]+)")
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("--hash")]
    pins = [match.group(0) for line in lines if (match := pin.match(line))]
    hashes = {}
    for machine in ("x86_64", "aarch64"):
        for python in PYTHONS:
            for glibc in GLIBC:
                for name, sha in chosen(pins, python, machine, glibc).items():
                    hashes.setdefault(name, set()).add(sha)
    out = []
    for line in lines:
        if match := pin.match(line):
            known = sorted(hashes.get(re.sub(r"[-_.]+", "-", match.group(1)).lower(), ()))
            if not known:
                sys.exit(f"{file}: no hash found for {match.group(0)}")
            out.append(" \\\n".join([match.group(0), *(f"    --hash=sha256:{sha}" for sha in known)]))
        else:
            out.append(line)
    file.write_text("\n".join(out) + "\n")
    print(f"{file.name}: {len(pins)} packages, {sum(len(h) for h in hashes.values())} hashes")


if __name__ == "__main__":
    for requirements in sorted(FOLDER.glob("requirements*.txt")):
        lock(requirements)
