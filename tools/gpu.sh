#!/usr/bin/env bash
# tools/gpu.sh build|test|bench|sanitize [ARGUMENTS]: the CUDA kernels on a machine with a GPU, which
# needs no network. Builds into build-cuda/; programs that lie there already and were built on another
# machine are used as they are, so a machine without compiler or libraries can run them. Prints a short
# table last; figures and logs go to OUT (default build-cuda/out) as JSON.
#   build            the library, the GPU tests, the benchmark library and, where python3 has torch and
#                    nanobind, the Python package
#   test [GTEST...]  kernels against the f64 reference, and the Python operator
#   bench [ARGS]     Perpend, FlexAttention and cuDNN in one process (bench/compare_gpu.py, --all unless
#                    there are ARGS); needs PyTorch
#   sanitize [TOOL]  memcheck and racecheck of compute-sanitizer, or one of them, on a case for each kernel;
#                    racecheck on kernels in a form that it can follow, in build-cuda-racecheck/
# PERPEND_PYTHON: the interpreter that has torch (python3); PERPEND_BUILD: another folder; JOBS: compilers
# at a time; PERPEND_SECONDS: after how many a test program is ended (300).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
build=${PERPEND_BUILD:-build-cuda}
out=${OUT:-$build/out}
python=${PERPEND_PYTHON:-python3}
if [ -x /usr/local/cuda/bin/nvcc ]; then PATH=/usr/local/cuda/bin:$PATH; fi
# A build that was carried here may have brought libraries.
export LD_LIBRARY_PATH=$PWD/$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

say() { printf '%s\n' "gpu: $*"; }
die() {
  say "$*"
  exit 1
}

# --- building ---

made_here() { grep -qsx "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$1/CMakeCache.txt"; } # FOLDER
has_programs() { [ -x "$1/tests/kernels/cuda/attention_cuda_test" ] || [ -e "$1/bench/gpu/libperpend_attention.so" ]; }

# Where CMake looks too, of several folders in the first.
has_header() {
  echo "#include <$1>" | CPATH=${CMAKE_PREFIX_PATH:+${CMAKE_PREFIX_PATH%%:*}/include} "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null
}

check_machine() {
  local tool missing=
  for tool in cmake nvcc "${CXX:-c++}"; do
    command -v "$tool" >/dev/null || missing+=" $tool"
  done
  if [ -z "$missing" ] && ! has_header oneapi/tbb/parallel_for.h; then missing=" oneTBB (libtbb-dev)"; fi
  [ -z "$missing" ] || die "can not build here without$missing; install it, name its folder in CMAKE_PREFIX_PATH, or bring a $build with programs"
}

# Options for what this machine has: without GoogleTest no tests, without nanobind no Python package.
configure_options() {
  options=(-DCMAKE_BUILD_TYPE=Release -DPERPEND_CUDA=ON -DPERPEND_BENCH=ON -DPERPEND_IO=OFF)
  targets=(perpend perpend_attention)
  if has_header gtest/gtest.h && has_header gmock/gmock.h; then
    options+=(-DPERPEND_TESTS=ON)
    targets+=(gpu_tests schedule_image_test)
  else
    say "GoogleTest (libgtest-dev, libgmock-dev) is missing: the tests are not built"
  fi
  if "$python" -c 'import nanobind, os, sysconfig, torch
folder = os.path.dirname(torch.__file__) + "/include/torch/csrc/stable/library.h"
raise SystemExit(not (os.path.exists(folder) and os.path.exists(sysconfig.get_path("include") + "/Python.h")))' 2>/dev/null; then
    options+=(-DPERPEND_PYTHON=ON -DPython_EXECUTABLE="$(command -v "$python")")
    targets+=(perpend_python)
  else
    say "$python lacks torch 2.11, nanobind or Python.h: the Python package is not built"
  fi
}

build_all() { # FOLDER [CMAKE OPTION...]
  local folder=$1 start=$SECONDS options targets generator="Unix Makefiles"
  if has_programs "$folder" && ! made_here "$folder"; then
    say "using the programs in $folder"
    return
  fi
  check_machine
  [ ! -e "$folder/CMakeCache.txt" ] || made_here "$folder" ||
    die "$folder was configured elsewhere and has no programs: remove it"
  configure_options
  options+=("${@:2}")
  if command -v ninja >/dev/null; then generator=Ninja; fi
  if ! made_here "$folder"; then options=(-G "$generator" "${options[@]}"); fi
  cmake -S . -B "$folder" "${options[@]}" >"$out/configure.log" 2>&1 ||
    die "CMake failed: $(grep -A 3 'CMake Error' "$out/configure.log" | tr -s '\n ' ' ' | head -c 400)"
  cmake --build "$folder" --target "${targets[@]}" -j "${JOBS:-$(nproc)}" >"$out/build.log" 2>&1 ||
    die "the build failed:
$(grep -E 'error|FAILED' "$out/build.log" | head -n 20)"
  say "built $folder in $((SECONDS - start)) s"
}

# --- results: a line each, printed again in the end and written as JSON ---

rows=()
entries=()
failed=0

record() { # NAME RESULT SECONDS TEXT
  local text=${4//[\"\\]/}
  rows+=("$(printf '%-26s %-9s %4d s  %s' "$1" "$2" "$3" "$text")")
  entries+=("{\"name\": \"$1\", \"result\": \"$2\", \"seconds\": $3, \"text\": \"$text\"}")
  printf '%s\n' "${rows[-1]}"
  case $2 in ok | "not run") ;; *) failed=1 ;; esac
}

report() { # FILE
  (
    IFS=,
    printf '{"results": [%s]}\n' "${entries[*]}" >"$1"
  )
  printf '\n'
  printf '%s\n' "${rows[@]}"
  return $failed
}

telling=. # what the lines look like that say how a program ended
summary() { grep -E "$telling" "$1" | tail -n 2 | tr -s '=\n ' ' '; }

# run_limited NAME SECONDS COMMAND...: records how a program ended.
run_limited() {
  local name=$1 limit=$2 status=0 start=$SECONDS
  shift 2
  timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null || status=$?
  case $status in
    0) record "$name" ok $((SECONDS - start)) "$(summary "$out/$name.log")" ;;
    77) record "$name" "not run" $((SECONDS - start)) "$(grep -m 1 -iE 'skip|not run' "$out/$name.log" || true)" ;;
    124 | 137) record "$name" "TOO LONG" $((SECONDS - start)) "ended in: $(grep -E '^\[ RUN|^  ' "$out/$name.log" | tail -n 1)" ;;
    *)
      grep -vE '^\[ +(OK|RUN)|^\[-|^$' "$out/$name.log" | tail -n 40
      record "$name" FAILED $((SECONDS - start)) "status $status; $(summary "$out/$name.log")"
      ;;
  esac
}

# --- test ---

kernel_test() { # NAME [GTEST...]
  local name=$1 program=$build/tests/kernels/cuda/${1}_test
  shift
  if [ ! -x "$program" ]; then program=$build/tests/kernels/${name}_test; fi
  if [ -x "$program" ]; then
    run_limited "$name" "${PERPEND_SECONDS:-300}" "$program" --gtest_output="json:$out/$name.json" "$@"
  else
    record "$name" "not run" 0 "not built"
  fi
  # They are what this is for.
  case ${rows[-1]} in *" not run "*) failed=1 ;; esac
}

python_tests() {
  local name
  if ! PYTHONPATH=$build/python "$python" -c 'import perpend; perpend.attention' >"$out/python.log" 2>&1; then
    record python "not run" 0 "$build has no Python package for $python: $(tail -n 1 "$out/python.log")"
    return
  fi
  for name in cuda_operator cuda_graph cuda_streams cuda_compile cuda_block; do
    run_limited "python_$name" "${PERPEND_SECONDS:-300}" \
      env PYTHONPATH="$build/python:tests" "$python" "tests/python/${name}_test.py"
    grep '^not run: ' "$out/python_$name.log" || true
  done
}

test_all() {
  local name
  for name in schedule_image fused_cuda attention_cuda decode_cuda block_lists_cuda; do
    kernel_test "$name" "$@"
  done
  python_tests
  report "$out/test.json"
}

# --- sanitize ---

# A case for each kernel, since sanitized ones are a hundred times as slow.
sanitize() { # TOOL FOLDER
  local tool=$1 folder=$2 test limit program filter
  command -v compute-sanitizer >/dev/null || die "compute-sanitizer is not there: it comes with the CUDA toolkit"
  while read -r test limit; do
    program=$folder/tests/kernels/cuda/${test}_test filter='*EveryKernel*'
    if [ "$test" = fused_cuda ]; then program=$folder/tests/kernels/fused_cuda_test filter='*'; fi
    run_limited "$tool-$test" "$limit" compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$program" --gtest_filter="$filter" --gtest_brief=1
  done <<<"fused_cuda 40
block_lists_cuda 40
decode_cuda 60
attention_cuda 120"
}

sanitize_all() {
  telling='(ERROR|RACECHECK) SUMMARY'
  if [ "${1:-memcheck}" = memcheck ]; then
    build_all "$build"
    sanitize memcheck "$build"
  fi
  if [ "${1:-racecheck}" = racecheck ]; then
    build_all "$build-racecheck" -DPERPEND_RACECHECK=ON
    sanitize racecheck "$build-racecheck"
  fi
  report "$out/sanitize.json"
}

command=${1:-}
[ $# = 0 ] || shift
case $command in build | test | bench | sanitize) mkdir -p "$out" ;; esac
case $command in
  build) build_all "$build" ;;
  test) build_all "$build" && test_all "$@" ;;
  bench)
    build_all "$build"
    [ $# != 0 ] || set -- --all
    "$python" bench/compare_gpu.py --build "$build" --json "$out/bench.json" "$@"
    ;;
  sanitize) sanitize_all "$@" ;;
  *)
    sed -n '2,16s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
