#!/usr/bin/env bash
# tools/setup/cuda_stand_ins.sh SITE-PACKAGES FOLDER: makes `import torch` possible without the gigabytes
# of CUDA libraries that its wheel names. For each of them that is not in SITE-PACKAGES, FOLDER gets a
# library of that name with the variables, and none of the functions, that torch wants of it; with
# LD_LIBRARY_PATH=FOLDER and TORCH_USE_RTLD_GLOBAL=1 (which binds functions when they are called, not
# before) torch runs on the CPU. For tests only.
set -euo pipefail
site=$1 folder=$2
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

libraries=("$site"/torch/lib/*.so* "$site"/torch/_C*.so)
find "$site" -name '*.so*' -printf '%f\n' >"$work/known"
# Versioned variables are other libraries' own; torch's have none, the system's are not of interest.
readelf --dyn-syms -W "${libraries[@]}" |
  awk '$4 == "OBJECT" && $7 == "UND" && $8 ~ /@/ && $8 !~ /@(GLIBC|GLIBCXX|CXXABI)/ { sub(/@.*/, "", $8); print $8 }' |
  sort -u | sed 's/.*/char &[4096];/' >"$work/variables.c"
readelf -d "${libraries[@]}" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(lib\(cu\|nv\|nccl\).*\)\]/\1/p' | sort -u |
  grep -vxFf "$work/known" | grep -vxF libcuda.so.1 |
  while read -r name; do
    cc -shared -fPIC -o "$folder/$name" -Wl,-soname,"$name" "$work/variables.c"
  done
