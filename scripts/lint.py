#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over our torch-free sources, or over FILES alone: scripts/lint.py BUILD [FILE...]

BUILD is a configured build folder (compile_commands.json). A file takes 10 to 50 s, so what was found clean is
remembered in build/lint by a hash of the preprocessed text, the checks and clang-tidy's version, and skipped until one
of them changes. All files are looked at before a finding ends this with exit code 1.
"""
import hashlib
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLEAN = ROOT / "build/lint"


def key_of(entry, rules):
    """Hash of all that clang-tidy's answer depends on; comments stay in, for they hold NOLINT."""
    words = shlex.split(entry["command"])
    words = words[: words.index("-o")]
    text = subprocess.run([*words, "-E", "-C", entry["file"]], cwd=entry["directory"], check=True,
                          capture_output=True).stdout
    return hashlib.sha256(rules + text).hexdigest()


def main():
    os.chdir(ROOT)
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build/fast")
    if not (build / "compile_commands.json").exists():
        sys.exit(f"lint: expected {build}/compile_commands.json, found none")
    # Generated sources (protobuf) must be there, or their headers are missing.
    subprocess.run(["cmake", "--build", build, "--target", "nas_events", "nas_onnx_messages"], check=True,
                   stdout=subprocess.DEVNULL)
    wanted = {(ROOT / name).resolve() for name in sys.argv[2:]}
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = Path(entry["file"])
        if file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "build") and file.suffix == ".cpp":
            entries.setdefault(file, entry)
    if unknown := wanted - entries.keys():
        sys.exit(f"lint: no torch-free source of {build}: {', '.join(map(str, sorted(unknown)))}")
    version = subprocess.run(["clang-tidy", "--version"], check=True, capture_output=True).stdout
    rules = Path(".clang-tidy").read_bytes() + version
    CLEAN.mkdir(parents=True, exist_ok=True)

    def lint(file):
        name, key = file.relative_to(ROOT), key_of(entries[file], rules)
        if (CLEAN / key).exists():
            return True
        done = subprocess.run(["clang-tidy", "-p", build, "--quiet", "--warnings-as-errors=*",
                               "--extra-arg=-Wno-unknown-warning-option", name], capture_output=True, text=True)
        if done.returncode == 0:
            (CLEAN / key).touch()
            print(f"lint {name}", flush=True)
        else:
            print(f"lint {name}: FOUND\n{done.stdout or done.stderr}", flush=True)
        return done.returncode == 0

    with ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count())) as pool:
        files = sorted(wanted or entries)
        bad = list(pool.map(lint, files)).count(False)
    print(f"lint: {len(files)} files, {bad} with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
