#!/usr/bin/env bash
# tests/python/install_test.sh PYTHON SITE-PACKAGES STAND-INS: `pip install .` into a scratch environment that
# has the torch of SITE-PACKAGES, and attention from there. PYTHON has what torch imports.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$1 torch_site=$2 stand_ins=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m venv "$scratch/venv"
site=$(echo "$scratch"/venv/lib/python3*/site-packages)
ln -s "$torch_site/torch" "$site"
{
  echo "$torch_site"
  "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
} >"$site/others.pth"
"$scratch/venv/bin/pip" install --disable-pip-version-check --no-deps "$root"

cd "$scratch"
[ -z "$stand_ins" ] || export TORCH_USE_RTLD_GLOBAL=1 LD_LIBRARY_PATH=$stand_ins
for example in "$root"/examples/python/*.py; do
  "$scratch/venv/bin/python" "$example"
done
