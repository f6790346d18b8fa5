"""Holds registers and spills of the CUDA kernels against those of resources.json.

    resources_test.py BUILD_FOLDER [--update]

Fails when a kernel spills more or holds more registers than it did, or is not in the file. What
ptxas says is in the *.o.ptxas files that cmake/ptxas_log.sh leaves in the build folder.
"""

import json
import pathlib
import re
import sys

KNOWN = pathlib.Path(__file__).resolve().parent / "resources.json"
KERNEL = re.compile(
    r"Compiling entry function '\S+' for '(?P<arch>\w+)'.*?(?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers", re.S)


def found_in(build: pathlib.Path) -> dict:
    kernels = {}
    for log in sorted(build.rglob("*.o.ptxas")):
        for match in KERNEL.finditer(log.read_text()):
            # The worst where a source has several.
            worst = kernels.setdefault(f"{log.name.removesuffix('.cu.o.ptxas')} {match['arch']}", {})
            for key in ("registers", "stores", "loads"):
                worst[key] = max(worst.get(key, 0), int(match[key]))
    return kernels


def main() -> None:
    build = pathlib.Path(sys.argv[1])
    found = found_in(build)
    if not found:
        sys.exit(f"no kernels in {build}")
    if "--update" in sys.argv:
        KNOWN.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "\n}\n")
        return
    known = json.loads(KNOWN.read_text())
    faults = [f"{name}: not in {KNOWN.name}; add it with --update" for name in found.keys() - known.keys()]
    faults += [f"{name}: in {KNOWN.name}, but not built" for name in known.keys() - found.keys()]
    for name in found.keys() & known.keys():
        faults += [f"{name}: {found[name][key]} {key}, {known[name][key]} before"
                   for key in known[name] if found[name][key] > known[name][key]]
    print("\n".join(sorted(faults)) or f"{len(found)} kernels, none worse than before")
    sys.exit(1 if faults else 0)


main()
