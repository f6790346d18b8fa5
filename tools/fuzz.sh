#!/usr/bin/env bash
# tools/fuzz.sh [--once] [SECONDS] [TARGET...]: builds the fuzz targets and runs each SECONDS (60), two at a
# time. Prints one line a target. An input that breaks one is kept under build/fuzz/findings; its path is
# printed and the exit status is 1. What a run learns (build/fuzz/corpus) is where the next one starts.
#   --once   passes over a target whose program and seeds went that long without a finding before
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
once=0
if [ "${1:-}" = --once ]; then
  once=1
  shift
fi
seconds=${1:-60}
shift || true
build=build/fuzz
stamps=${PERPEND_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/perpend}/fuzz

mkdir -p $build/log "$stamps"
{ cmake --preset fuzz && cmake --build $build; } >$build/log/build 2>&1 || {
  tail -n 30 $build/log/build >&2
  exit 2
}
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(ls $build/fuzzers)

# fuzz TARGET: one line, and the reproducer's path when there is one.
fuzz() {
  local target=$1 program seeds stamp corpus=$build/corpus/$1 findings=$build/findings/$1 log=$build/log/$1.log
  read -r program seeds <"$build/fuzzers/$target"
  stamp=$stamps/$({ cat "$program" && find "$seeds" -type f | sort | xargs cat; } | sha256sum | cut -c1-32)-$seconds
  if [ $once = 1 ] && [ -e "$stamp" ]; then
    printf '%-22s passed before\n' "$target"
    return
  fi
  mkdir -p "$corpus" "$findings"
  local runs cover status=0
  "$program" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$findings/" "$corpus" "$seeds" >"$log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  cover=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
  if [ $status = 0 ]; then
    touch "$stamp"
    printf '%-22s %10s inputs, %s, no findings\n' "$target" "$runs" "$cover"
  else
    printf '%-22s FINDING %s (log: %s)\n' "$target" \
      "$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)" "$log"
    return 1
  fi
}
export -f fuzz
export build stamps seconds once

printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -euo pipefail -c "fuzz {}" || exit 1
