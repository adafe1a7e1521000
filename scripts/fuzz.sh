#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/fuzz.sh [SECONDS]: builds the libFuzzer targets with clang and runs each for SECONDS (default 60), two at a
# time, from small generated corpora. Exit code 1 on a crash, hang, leak or too much memory; the input is then kept in
# build/fuzz/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
folder=build/fuzz
targets="nifti dataset graph safetensors pickle torch_file"

log=$(cmake --preset fuzz 2>&1) || { printf '%s\n' "$log"; exit 1; }
cmake --build --preset fuzz ${JOBS:+-j "$JOBS"}
"$folder/tests/fuzz/write_seeds" "$folder/seeds"

# What an input may take at once is the target's word (most_memory in tests/fuzz/targets.h); the limit of one allocation
# stops a believed claim at its source, with a stack trace.
run_target() {
  local name=$1
  mkdir -p "$folder/corpus/$name"
  if ASAN_OPTIONS=detect_leaks=1 "$folder/tests/fuzz/fuzz_$name" "$folder/corpus/$name" "$folder/seeds/$name" \
    -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=128 \
    -artifact_prefix="$folder/$name-" -print_final_stats=1 -verbosity=1 >"$folder/$name.log" 2>&1; then
    printf 'fuzz %s: %s inputs in %s s, none broke it\n' "$name" \
      "$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$name.log")" "$seconds"
  else
    printf 'fuzz %s: FAILED\n' "$name"
    tail -n 60 "$folder/$name.log"
    return 1
  fi
}
export -f run_target
export folder seconds
printf '%s\n' $targets | xargs -P 2 -I{} bash -c 'run_target {}'
