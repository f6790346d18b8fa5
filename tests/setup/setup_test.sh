#!/usr/bin/env bash
# Holds tools/setup/common.sh to its promise: whatever is missing, one sentence on standard error that says
# how to mend it, nothing on standard output, and a status other than 0. Each case runs in a machine made
# of shims: no package manager, compiler or network of this one is ever asked, and no root is needed.
set -euo pipefail
repository=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
num_wrong=0
num_cases=0

# machine: an empty machine of a user who is not root, with the tools that every Debian has.
machine() {
  rm -rf "$scratch/machine"
  mkdir -p "$scratch/machine/bin" "$scratch/machine/checkout/perpend"
  ln -s "$repository/tools" "$scratch/machine/checkout/tools"
  local tool
  for tool in awk bash cat cut env find flock grep ln mkdir mktemp mv rm sha256sum tail touch; do
    ln -s "$(command -v "$tool")" "$scratch/machine/bin/$tool"
  done
  shim id 'echo 1000'
  shim dpkg 'exit 1'
  shim df 'printf "head\n/dev/vda 9 9 90000 9%% /\n"'
  shim apt-get 'echo "Reading package lists..."'
  shim c++ 'exit 0'
  shim cmake 'exit 0'
  shim python3 'case "$1" in
    -c) echo 3.11 ;;
    -m) mkdir -p "$3/bin" && ln -s "$(command -v pip)" "$3/bin/pip" ;;
  esac'
  shim pip 'echo "Successfully installed"'
}

# shim NAME 'commands': a program of the machine.
shim() {
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$scratch/machine/bin/$1"
  chmod +x "$scratch/machine/bin/$1"
}

# on_machine 'commands': runs them behind common.sh; standard output and error go to files.
on_machine() {
  (cd "$scratch/machine/checkout" && env -i PATH="$scratch/machine/bin" HOME="$scratch/machine" \
    PERPEND_HOME="${home:-$scratch/machine/home}" \
    bash -c "set -euo pipefail; . tools/setup/common.sh; $1") \
    >"$scratch/stdout" 2>"$scratch/stderr"
}

wrong() {
  num_wrong=$((num_wrong + 1))
  printf 'setup_test: %s\n' "$1" >&2
  sed 's/^/  | /' "$scratch/stderr" >&2
}

# refused "case" 'commands' "sentence": the last line says it, and only that line.
refused() {
  num_cases=$((num_cases + 1))
  if on_machine "$2"; then
    wrong "$1: went through"
  elif [ -s "$scratch/stdout" ]; then
    wrong "$1: wrote to standard output"
  elif ! tail -n 1 "$scratch/stderr" | grep -qF "perpend: $3"; then
    wrong "$1: expected '$3'"
  elif [ "$(grep -vc ' \.\.\. ' "$scratch/stderr")" != 1 ]; then
    wrong "$1: more than one sentence"
  fi
}

# accepted "case" 'commands'
accepted() {
  num_cases=$((num_cases + 1))
  on_machine "$2" || wrong "$1: refused"
}

packages='ensure_packages run tools/setup/packages-build.txt'
venv='ensure_venv torch "installing LibTorch" 2500 tools/setup/torch.txt'
build='ensure_build torch perpend_cli'
as_root_user() { shim id 'echo 0'; }

machine
as_root_user
accepted "root installs packages" "$packages"
shim dpkg 'echo "asked again" >&2; exit 1'
shim apt-get 'exit 100'
accepted "packages are installed once" "$packages"

machine
shim sudo 'echo "$@" >>"$HOME/sudo.log"; exec "$@"'
accepted "a user with sudo installs packages" "$packages"
grep -q '^env DEBIAN_FRONTEND=noninteractive apt-get install .*ninja-build' "$scratch/machine/sudo.log" ||
  wrong "sudo: apt-get install was not run through it"

machine
refused "no root, no sudo" "$packages" \
  "Debian packages are missing and there is no sudo; as root: apt-get install ccache cmake"
shim sudo 'echo "joe is not in the sudoers file.  This incident will be reported."; exit 1'
refused "sudo refuses" "$packages" "not allowed to install packages"
shim sudo 'echo "sudo: a terminal is required to read the password"; exit 1'
refused "sudo can not ask" "$packages" "not allowed to install packages"

machine
as_root_user
shim apt-get 'echo "E: Failed to fetch http://deb.debian.org/x.deb  Temporary failure resolving"; exit 100'
refused "no network for apt-get" "$packages" "there is no network"
shim apt-get 'echo "E: You don'"'"'t have enough free space in /var/cache/apt/archives/."; exit 100'
refused "no space for apt-get" "$packages" "the disk is full"
shim apt-get 'echo "E: Unable to locate package libutf8proc-dev"; exit 100'
refused "another Debian" "$packages" "a package is not known here: this needs Debian 12"
rm "$scratch/machine/bin/apt-get"
refused "no apt-get" "$packages" "this needs Debian 12 or a system with apt-get"

machine
accepted "a virtual environment" "$venv"
shim pip 'exit 1'
accepted "a virtual environment is made once" "$venv"

machine
shim pip 'echo "WARNING: Retrying after connection broken by NewConnectionError: Failed to establish a new
connection: [Errno -3] Temporary failure in name resolution"
echo "ERROR: No matching distribution found for torch==2.11.0"; exit 1'
refused "no network for pip" "$venv" "there is no network"
[ -z "$(find "$scratch/machine/home/venv" -name bin)" ] || wrong "a failed installation left a part behind"
shim pip 'echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"; exit 1'
refused "no space for pip" "$venv" "the disk is full"
shim df 'printf "head\n/dev/vda 9 9 90 9%% /\n"'
refused "too little space to begin" "$venv" "the disk is too full: 2500 MB are needed in"

machine
accepted "a build" "$build"
machine
rm "$scratch/machine/bin/c++"
refused "no compiler" "$build" "there is no C++ compiler: apt-get install g++"
machine
shim cmake 'echo "c++: fatal error: Killed signal terminated program cc1plus"; exit 1'
refused "no memory for the compiler" "$build" "out of memory"
shim cmake 'echo "/tmp/x.s: fatal error: error writing to /tmp/x.s: No space left on device"; exit 1'
refused "no space for the compiler" "$build" "the disk is full"

machine
detect='export CUDA_HOME=/none; detect_cuda; [ "${PERPEND_CUDA:-0}" = '
accepted "no GPU" "$detect 0 ]"
shim nvcc 'exit 0'
accepted "a compiler without a GPU" "$detect 0 ]"
shim nvidia-smi 'echo "GPU 0: NVIDIA H100"'
accepted "a GPU and its compiler" "$detect 1 ]"
grep -q "building with CUDA" "$scratch/stderr" || wrong "a build with CUDA is not announced"
accepted "a GPU that the user does not want" "export PERPEND_CUDA=0; $detect 0 ]"
rm "$scratch/machine/bin/nvcc"
accepted "a GPU without its compiler" "$detect 0 ]"

machine
touch "$scratch/machine/file"
home=$scratch/machine/file/home refused "PERPEND_HOME can not be made" ":" "can not write to"
mkdir -p "$scratch/machine/home/lock"
refused "PERPEND_HOME can not be written" ":" "can not write to"

printf 'setup: %s cases, %s wrong\n' "$num_cases" "$num_wrong"
[ "$num_wrong" = 0 ]
