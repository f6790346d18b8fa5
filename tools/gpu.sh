#!/usr/bin/env bash
# tools/gpu.sh build|test|bench|sanitize [ARGUMENTS]: the CUDA kernels on a machine with a GPU, which
# needs no network. Builds into build-cuda/; what is built there already, also on another machine, is
# used where this one has no compiler or library for it. Prints a short table last; figures and logs go
# to OUT (default build-cuda/out) as JSON.
#   build            the library, the GPU tests, the benchmark library and, where python3 has torch and
#                    nanobind, the Python package
#   test [GTEST...]  kernels against the f64 reference, and the Python operator
#   bench [ARGS]     Perpend, FlexAttention and cuDNN in one process (bench/compare_gpu.py); needs PyTorch
#   sanitize         memcheck and racecheck of compute-sanitizer on a reduced set
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
build=${PERPEND_BUILD:-build-cuda}
out=${OUT:-$build/out}
mkdir -p "$out"
if [ -x /usr/local/cuda/bin/nvcc ]; then PATH=/usr/local/cuda/bin:$PATH; fi
# A build that was carried here may have brought libraries.
export LD_LIBRARY_PATH=$PWD/$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

python=${PERPEND_PYTHON:-python3}

say() { printf '%s\n' "gpu: $*"; }

# A carried build has programs, but no Ninja files of this machine.
build_all() {
  if [ -x "$build/tests/kernels/cuda/attention_cuda_test" ] && [ ! -f "$build/build.ninja" ]; then
    say "using the programs in $build"
    return
  fi
  local start=$SECONDS package=()
  if "$python" -c 'import torch, nanobind' 2>/dev/null; then
    package=(-DPERPEND_PYTHON=ON -DPython_EXECUTABLE="$(command -v "$python")")
  else
    say "$python has no torch or no nanobind: the Python package is not built"
  fi
  cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DPERPEND_CUDA=ON -DPERPEND_TESTS=ON -DPERPEND_BENCH=ON \
    -DPERPEND_IO=OFF "${package[@]}" >"$out/configure.log" 2>&1 || { tail -n 5 "$out/configure.log"; exit 1; }
  cmake --build "$build" --target perpend gpu_tests schedule_image_test perpend_attention \
    ${package:+perpend_python} ${JOBS:+-j "$JOBS"} >"$out/build.log" 2>&1 || { grep -E 'error|FAILED' "$out/build.log" | head -n 20; exit 1; }
  say "built in $((SECONDS - start)) s"
}

run_test() { # NAME PROGRAM [GTEST...]
  local name=$1
  shift
  local status=0 start=$SECONDS result=ok
  "$@" --gtest_output="json:$out/$name.json" >"$out/$name.log" 2>&1 || status=$?
  case $status in
    0) ;;
    77) result="NOT RUN" ;; # no GPU
    *)
      result=FAILED
      # The test that was running when a hang was ended is the last that began.
      grep -vE '^\[ +OK|^\[-|^$' "$out/$name.log" | tail -n 40
      ;;
  esac
  printf '%-24s %-8s %4d s  %s\n' "$name" "$result" "$((SECONDS - start))" \
    "$(tail -n 3 "$out/$name.log" | tr '\n' ' ')"
  return $status
}

# A script that ends with status 77 ran nothing; what it left out it says line by line.
run_python_test() { # NAME
  local name=$1 status=0 start=$SECONDS result=ok
  PYTHONPATH=$build/python:tests timeout 900 "$python" "tests/python/${name}_test.py" >"$out/$name.log" 2>&1 || status=$?
  case $status in
    0) ;;
    77) result="not run" status=0 ;;
    *)
      result=FAILED
      grep -vE '^$' "$out/$name.log" | tail -n 40
      ;;
  esac
  grep '^not run: ' "$out/$name.log" || true
  printf '%-24s %-8s %4d s  %s\n' "$name" "$result" "$((SECONDS - start))" "$(tail -n 1 "$out/$name.log")"
  return $status
}

test_python() {
  local failed=0 name
  if [ ! -e "$build/python/perpend/libperpend_operators.so" ]; then
    say "there is no Python package in $build: its tests were not run"
    return
  fi
  for name in cuda_operator cuda_graph cuda_streams cuda_compile cuda_block; do
    run_python_test "$name" || failed=1
  done
  return $failed
}

test_all() {
  local failed=0
  run_test schedule_image "$build/tests/kernels/cuda/schedule_image_test" || failed=1
  run_test attention_cuda "$build/tests/kernels/cuda/attention_cuda_test" "$@" || failed=1
  run_test decode_cuda "$build/tests/kernels/cuda/decode_cuda_test" "$@" || failed=1
  run_test block_lists_cuda "$build/tests/kernels/cuda/block_lists_cuda_test" "$@" || failed=1
  test_python || failed=1
  return $failed
}

sanitize() {
  local tool test failed=0
  for tool in memcheck racecheck; do
    for test in attention decode block_lists; do
      # Sanitized kernels are a hundred times as slow.
      PERPEND_CAMPAIGN_CASES=40 compute-sanitizer --tool $tool --error-exitcode 9 \
        "$build/tests/kernels/cuda/${test}_cuda_test" \
        --gtest_filter="${1:-*RandomCases:AttentionCuda.HeadsOfAGroup*:*AnyPlan*:*FewAndMany*:*APlanRefuses*:*GraphsTake*}" \
        --gtest_brief=1 >"$out/$tool-$test.log" 2>&1 || failed=1
      printf '%-10s %-10s %s\n' $tool $test \
        "$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$out/$tool-$test.log" | tail -n 1)"
    done
  done
  return $failed
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
  build) build_all ;;
  test) build_all && test_all "$@" ;;
  bench) build_all && PYTHONPATH=bench python3 bench/compare_gpu.py --build "$build" --json "$out/bench.json" "$@" ;;
  sanitize) build_all && sanitize "$@" ;;
  *)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
