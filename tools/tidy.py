#!/usr/bin/env python3
"""tools/tidy.py [--all | FILE...]: clang-tidy over these sources, or over all that is compiled.

Sources that include LibTorch's headers, half a minute each, are looked at with --all or by name only, and so
are tests for all that can be said of them.
Prints what it finds and ends with a count; the exit status is 1 when there was anything. A source
that passed is passed over until it, a header of ours that it includes, its compile command, .clang-tidy
or the tool changes: the stamps lie under PERPEND_HOME/tidy. Compile commands are those of the presets
torch and fuzz, whichever are configured; what is compiled as a unit of several sources is looked at as one.
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILDS = [ROOT / "build" / "torch", ROOT / "build" / "fuzz"]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
STAMPS = pathlib.Path(os.environ.get("PERPEND_HOME") or CACHE / "perpend") / "tidy"
TOOL = "clang-tidy-16"
WORKERS = 2

# LibTorch's headers take a matcher as long as a compiler: where they are included, only what finds
# mistakes.
TORCH_CHECKS = """-*,bugprone-dangling-handle,bugprone-unused-raii,bugprone-use-after-move,
cppcoreguidelines-owning-memory,google-explicit-constructor,modernize-use-override,
performance-for-range-copy,performance-move-const-arg,performance-unnecessary-copy-initialization,
readability-braces-around-statements""".replace("\n", "")

# What finds mistakes in tests, or speaks of names and form. The rest looks through GoogleTest's headers for as
# long as it takes to parse them.
TEST_CHECKS = """-*,bugprone-argument-comment,bugprone-copy-constructor-init,bugprone-dangling-handle,
bugprone-use-after-move,misc-unused-using-decls,modernize-use-override,performance-for-range-copy,
performance-unnecessary-copy-initialization,readability-braces-around-statements,
readability-identifier-naming""".replace("\n", "")

# A unit includes its sources, which would be odd elsewhere.
UNIT_CHECKS = "-bugprone-suspicious-include"


@functools.cache
def includes(path: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Headers of ours that a file names."""
    names = re.findall(r'^#include "([^"]+)"', path.read_text(), re.M)
    return tuple(ROOT / name for name in names if (ROOT / name).is_file())


def closure(path: pathlib.Path) -> list[pathlib.Path]:
    found = {path}
    waiting = [path]
    while waiting:
        for header in includes(waiting.pop()):
            if header not in found:
                found.add(header)
                waiting.append(header)
    return sorted(found)


def wants_torch(files: list[pathlib.Path]) -> bool:
    return any(re.search(r"^#include <(torch|ATen|c10)/", file.read_text(), re.M) for file in files)


@functools.cache
def file_hash(path: pathlib.Path) -> bytes:
    """The same for a unit of another checkout, which names its sources."""
    return hashlib.sha256(path.read_bytes().replace(str(ROOT).encode(), b"")).digest()


def members(source: pathlib.Path) -> list[pathlib.Path]:
    """The sources of a unit, or the one source."""
    return [file for file in includes(source) if file.suffix == ".cpp"] or [source]


def without_precompiled(command: str) -> str:
    """A compile command without GCC's precompiled headers, which clang can not read."""
    return re.sub(r" -Winvalid-pch| -fpch-preprocess| -include \S*cmake_pch\.hxx", "", command)


class Job:
    def __init__(self, source: pathlib.Path, command: str, in_full: bool):
        self.source = source
        self.files = closure(source)
        self.torch = wants_torch(self.files)
        is_test = all(member.is_relative_to(ROOT / "tests") for member in members(source))
        self.checks = TORCH_CHECKS if self.torch else TEST_CHECKS if is_test and not in_full else UNIT_CHECKS
        # The same sources in another checkout are the same sources.
        self.command = command.replace(str(ROOT), "")

    def stamp(self, settings: bytes) -> pathlib.Path:
        digest = hashlib.sha256(settings + self.command.encode() + self.checks.encode())
        for file in self.files:
            digest.update(file_hash(file))
        return STAMPS / digest.hexdigest()[:32]

    def passes(self, database: str) -> bool:
        arguments = [TOOL, "-p", database, "--quiet", f"--checks={self.checks}", self.source]
        result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            print(result.stdout or result.stderr, flush=True)
        return result.returncode == 0


def compile_commands() -> dict[pathlib.Path, dict[str, str]]:
    """How each source or unit is compiled, by the first build that has its sources."""
    entries = {}
    known = set()
    for build in BUILDS:
        database = build / "compile_commands.json"
        for entry in json.loads(database.read_text()) if database.exists() else []:
            entry["command"] = without_precompiled(entry["command"])
            source = pathlib.Path(entry["file"])
            is_ours = source.is_relative_to(ROOT) and source.name != "cmake_pch.hxx.cxx"
            if is_ours and not known.issuperset(members(source)):
                known.update(members(source))
                entries[source] = entry
    return entries


def main() -> None:
    commands = compile_commands()
    everything = sys.argv[1:] == ["--all"]
    in_full = len(sys.argv) > 1
    known = {source: Job(source, entry["command"], in_full) for source, entry in commands.items()}
    unit_of = {member: source for source in known for member in members(source)}
    named = [] if everything else [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    wanted = list(dict.fromkeys(unit_of.get(source, source) for source in named))
    wanted = wanted or [source for source in sorted(known) if everything or not known[source].torch]
    unknown = ", ".join(str(source) for source in wanted if source not in known)
    if not wanted or unknown:
        sys.exit(f"tidy: no compile command for {unknown or 'anything'}; configure the presets torch and fuzz")
    version = subprocess.run([TOOL, "--version"], capture_output=True, check=True).stdout
    settings = version + (ROOT / ".clang-tidy").read_bytes()
    STAMPS.mkdir(parents=True, exist_ok=True)

    jobs = [known[source] for source in wanted if not known[source].stamp(settings).exists()]
    # The long ones first, so that no worker is left waiting for one at the end.
    jobs.sort(key=lambda job: job.checks != UNIT_CHECKS)
    with tempfile.TemporaryDirectory() as database:
        (pathlib.Path(database) / "compile_commands.json").write_text(json.dumps(list(commands.values())))

        def look_at(job: Job) -> bool:
            passed = job.passes(database)
            if passed:
                job.stamp(settings).touch()
            return passed

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            passed = list(pool.map(look_at, jobs))
    print(f"tidy: {len(wanted)} sources, {len(jobs)} of them looked at, {passed.count(False)} with findings")
    sys.exit(0 if all(passed) else 1)


main()
