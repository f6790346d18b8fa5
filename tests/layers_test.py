"""Checks who includes whom: a folder of perpend/ may include only from folders below it.

Also: no Torch below ops/, #pragma once in every header, no #if in public headers.
"""

import pathlib
import re
import sys

# Folder -> folders whose headers it may include besides its own (docs/architecture.md).
LAYERS = {
    "core": [],
    "formats": ["core"],
    "mask": ["core"],
    "schedule": ["core", "mask"],
    "kernels": ["core", "schedule", "formats", "mask"],
    "kernels/cpu": ["kernels", "core", "schedule", "formats"],
    "kernels/cuda": ["kernels", "core", "schedule", "formats"],
    "kernels/no_cuda": ["kernels"],
    "kernels/reference": ["kernels", "core", "schedule", "mask"],
    "cache": ["core", "mask", "kernels"],
    "io": ["core", "formats"],
    "workloads": ["core", "mask", "schedule"],
    "ops": ["cache", "kernels", "schedule", "mask", "formats", "core"],
    "nn": ["ops", "cache", "kernels", "schedule", "mask", "formats", "core"],
    "models": ["nn", "io", "ops", "cache", "kernels", "schedule", "mask", "formats", "core"],
    "decode": ["models", "nn", "io", "ops", "cache", "kernels", "schedule", "mask", "formats", "core"],
    "train": ["models", "nn", "io", "ops", "cache", "kernels", "schedule", "mask", "formats", "core"],
    "python": ["decode", "models", "nn", "io", "ops", "cache", "kernels", "schedule", "mask", "formats", "core"],
    "cli": ["workloads", "train", "decode", "models", "nn", "io", "ops", "cache", "kernels/reference", "kernels", "schedule", "mask", "formats", "core"],
}
WITH_TORCH = {"ops", "nn", "models", "decode", "train", "cli", "python"}


def layer_of(path: str) -> str:
    """The longest folder of the table that holds a path such as perpend/io/gguf.h."""
    inner = path.removeprefix("perpend/")
    matches = [name for name in LAYERS if inner.startswith(name + "/")]
    return max(matches, key=len) if matches else ""


def faults_of(path: pathlib.Path, name: str) -> list[str]:
    text = path.read_text()
    layer = layer_of(name)
    if not layer:
        return [f"{name}: its folder is not in the table of layers"]
    faults = []
    for target in re.findall(r'^#include "([^"]+)"', text, re.M):
        if not target.startswith("perpend/"):
            faults.append(f"{name}: includes {target}; expected a path from the root")
        elif layer_of(target) != layer and layer_of(target) not in LAYERS[layer]:
            faults.append(f"{name}: {layer} must not include {target}")
    if layer not in WITH_TORCH and re.search(r"^#include <(torch|ATen|c10)/", text, re.M):
        faults.append(f"{name}: Torch below ops/")
    if path.suffix in {".h", ".cuh"}:
        if not text.startswith("#pragma once"):
            faults.append(f"{name}: does not begin with #pragma once")
        if re.search(r"^#\s*if", text, re.M) and "/device/" not in name:
            faults.append(f"{name}: #if in a header")
    return faults


def main() -> None:
    root = pathlib.Path(__file__).resolve().parent.parent
    files = [p for p in (root / "perpend").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    faults = [f for p in sorted(files) for f in faults_of(p, p.relative_to(root).as_posix())]
    print("\n".join(faults) or f"{len(files)} files include only what lies below them")
    sys.exit(1 if faults or not files else 0)


main()
