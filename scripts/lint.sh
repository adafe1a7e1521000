#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/lint.sh BUILD: clang-tidy over our torch-free sources, with the compile commands of a configured BUILD folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build/fast}
[ -e "$build/compile_commands.json" ] || { echo "lint: expected $build/compile_commands.json, found none" >&2; exit 1; }
# Generated sources (protobuf) must be there, or their headers are missing.
cmake --build "$build" --target nas_events nas_onnx_messages >/dev/null
python3 - "$build/compile_commands.json" <<'PY' | xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet --warnings-as-errors='*' --extra-arg=-Wno-unknown-warning-option
import json, os, sys
here = os.getcwd() + os.sep
for entry in json.load(open(sys.argv[1])):
    file = entry["file"]
    if file.startswith(here) and not file.startswith(here + "build") and file.endswith(".cpp"):
        print(file[len(here):])
PY
