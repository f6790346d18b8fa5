#!/usr/bin/env python3
"""Perpend, FlexAttention and cuDNN (PyTorch's SDPA) on the GPU workloads, in one process.

Peers take turns in short bursts, so that all of them see the same clocks; the tables have medians of all
bursts and ratios. Rates count 4 * head_dim operations a live pair forward, 10 * head_dim backward (the gradients
of q, k and v alone; "fused": those whose sums have no fixed order, "turns": by the same pass in an order). "tiles" is the rate of all pairs that were
computed, "clocks" what a multiprocessor took for 128 x 128 of them, which does not depend on its frequency, "MHz".
Every answer of ours is held against float64 rows of the mask and against the peers before anything is timed.

    bench/compare_gpu.py [--build build-cuda] [--part PART,...] [--all] [--only TEXT,...] [--json FILE] [--check]

Parts: `forward` and `backward` (dense and causal of several lengths), `structured` and `structured_backward` (the
structured workloads of workloads.json), `workloads` (all of that file, forward), `decode` (steps of a decode loop over
pages, in GB/s), `growth` (one mask at 8k to 1M tokens). Floors are printed last. --all is for one run of all that
floors are set for, about six minutes: fewer dense shapes, and decode without FlexAttention.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
import time

import torch

import gpu_attention
import gpu_decode
import gpu_flex
import gpu_floors
import gpu_growth
import gpu_passes
import gpu_workloads
from gpu_passes import Bench
from gpu_timing import Turns

# (tokens, batch, heads, head_dim) with a floor, and short sequences beside them.
JUDGED = ((16384, 1, 16, 128), (4096, 4, 16, 128), (16384, 1, 32, 64), (4096, 4, 32, 64))
EVERY_PART = ("forward", "backward", "structured", "structured_backward", "decode", "growth")


class Comparison:
    """Parts of a run, whose results are kept by part; what fails is told and left out."""

    def __init__(self, options):
        self.options = options
        turns = Turns(options.rounds, options.burst, options.pause)
        self.bench = Bench(gpu_attention.Library(options.build), turns, tuple(options.peers.split(",")))
        self.without_flex = Bench(self.bench.library, turns, tuple(p for p in self.bench.peers if p != "flex"))
        self.results: dict[str, list[dict]] = {}
        self.failures: list[str] = []

    def chosen(self, named: list) -> list:
        name = lambda one: one["name"] if isinstance(one, dict) else one.name
        return [one for one in named if any(text in name(one) for text in self.options.only.split(","))]

    def each(self, part: str, workloads: list, measure, module) -> None:
        """A line of the table for each workload."""
        print(f"\n{part}\n{module.HEADER}", flush=True)
        results = self.results.setdefault(part, [])
        for workload in self.chosen(workloads):
            try:
                results.append(measure(workload))
                print(module.row_of(results[-1]), flush=True)
            except (AssertionError, RuntimeError) as error:
                self.failures.append(f"{part}: {error}")
                print(f"FAILED: {error}", flush=True)
            torch.cuda.empty_cache()

    def dense_workloads(self) -> list:
        return gpu_workloads.dense(JUDGED if self.options.all else tuple(gpu_workloads.DENSE))

    def forward(self) -> None:
        self.each("forward", self.dense_workloads(),
                  functools.partial(gpu_passes.forward, bench=self.without_flex), gpu_passes)

    def backward(self) -> None:
        self.each("backward", self.dense_workloads(),
                  functools.partial(gpu_passes.backward, bench=self.without_flex, fused=True), gpu_passes)

    def of_file(self, part: str, measure) -> None:
        workloads = self.chosen([w for w in gpu_workloads.of_file() if w.structured or part == "workloads"])
        if "flex" in self.bench.peers and len(workloads) > 1:
            gpu_flex.compile_ahead(workloads, "backward" in part)
        self.each(part, workloads, measure, gpu_passes)

    def workloads(self) -> None:
        self.of_file("workloads", functools.partial(gpu_passes.forward, bench=self.bench))

    def structured(self) -> None:
        self.of_file("structured", functools.partial(gpu_passes.forward, bench=self.bench))

    def structured_backward(self) -> None:
        self.of_file("structured_backward",
                     functools.partial(gpu_passes.backward, bench=self.bench, fused=False))

    def decode(self) -> None:
        bench = self.without_flex if self.options.all else self.bench
        self.each("decode", gpu_decode.WORKLOADS, functools.partial(gpu_decode.measure, bench=bench), gpu_decode)

    def growth(self) -> None:
        print(f"\ngrowth\n{gpu_growth.HEADER}", flush=True)
        try:
            self.results["growth"] = gpu_growth.measure(self.chosen(gpu_workloads.growing()), self.bench)
        except (AssertionError, RuntimeError) as error:
            self.failures.append(f"growth: {error}")
            print(f"FAILED: {error}", flush=True)
        print("\n".join(map(gpu_growth.row_of, self.results.get("growth", []))), flush=True)
        torch.cuda.empty_cache()

    def run(self, parts: list[str]) -> None:
        for part in parts:
            begin = time.time()
            getattr(self, part)()
            print(f"{part}: {time.time() - begin:.0f} s", flush=True)
            self.write()

    def write(self) -> None:
        if not self.options.json:
            return
        pathlib.Path(self.options.json).write_text(json.dumps(
            {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "results": self.results,
             "floors": [dataclasses.asdict(floor) for floor in gpu_floors.floors(self.results)],
             "failures": self.failures}, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build-cuda", help="build folder with the library")
    parser.add_argument("--part", default="", help="what to measure, or several: a,b")
    parser.add_argument("--all", action="store_true", help="what has floors alone, of all parts or those of --part")
    parser.add_argument("--only", default="", help="workloads whose name holds this, or one of these: a,b")
    parser.add_argument("--peers", default="cudnn,flex")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--burst", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before a burst")
    parser.add_argument("--json", default="", help="file for all figures")
    parser.add_argument("--check", action="store_true", help="end with status 1 where a floor is missed")
    options = parser.parse_args()
    options.parts = options.part.split(",") if options.part else list(EVERY_PART) if options.all else ["workloads"]
    for part in options.parts:
        if part not in (*EVERY_PART, "workloads"):
            parser.error(f"unknown part {part}; there are {', '.join(EVERY_PART)} and workloads")
    return options


def main() -> None:
    options = arguments()
    torch.manual_seed(0)
    comparison = Comparison(options)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, medians of {options.rounds} x {options.burst} calls")
    comparison.run(options.parts)
    floors = gpu_floors.floors(comparison.results)
    print("\n".join(["", *map(str, floors), *(f"FAILED: {failure}" for failure in comparison.failures)]))
    if options.check and (comparison.failures or not all(floor.holds for floor in floors)):
        sys.exit(1)


main()
