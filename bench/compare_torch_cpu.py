#!/usr/bin/env python3
"""Attention of Perpend beside PyTorch 2.11 on a CPU, in one run, on the `cpu` workloads.

    bench/compare_torch_cpu.py [--threads 2] [--rounds 3] [--reps 5] [--dtype bf16 f32] [--only NAME] [--json FILE]
                               [--check]

Both time the same thing: tensors [B, H, S, D], forward and backward of one call, plans and masks made before.
`perpend bench attention` (it checks its answers first) alternates with a PyTorch process that stays; times are
medians of all calls. Dense and causal attention run against scaled_dot_product_attention; other masks against
the faster of SDPA with a boolean mask and compiled FlexAttention. FlexAttention has no backward pass on CPUs in
2.11, so backward is held against SDPA with the boolean mask. --check ends with status 1 when a floor is missed.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = pathlib.Path(
    os.environ.get("PERPEND_HOME")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "perpend"
)
# Floors of peer time / Perpend time, by whether a workload is structured.
FLOORS = {False: {"forward": 1.2, "backward": 1.0}, True: {"forward": 3.0, "both": 2.0}}


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def torch_python():
    """An interpreter that finds the torch of ./run and what that leaves out, and the environment it needs."""
    torch = max(HOME.glob("venv/torch-*-py3*/complete")).parent
    venv = HOME / f"venv/peer-{torch.name}"
    stand_ins = venv / "stand-ins"
    if not (venv / "complete").exists():
        say("installing what Python needs to import torch ...")
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "-r", ROOT / "bench/torch-peer.txt"], check=True)
        torch_packages = next(torch.glob("lib/python3*/site-packages"))
        subprocess.run([ROOT / "tools/setup/cuda_stand_ins.sh", torch_packages, stand_ins], check=True)
        (next(venv.glob("lib/python3*/site-packages")) / "torch.pth").write_text(f"{torch_packages}\n")
        (venv / "complete").touch()
    return venv / "bin/python", {"LD_LIBRARY_PATH": str(stand_ins), "TORCH_USE_RTLD_GLOBAL": "1"}


class Peer:
    """The PyTorch process."""

    def __init__(self, threads):
        python, environment = torch_python()
        environment = {**os.environ, **environment, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, ROOT / "bench/torch_cpu_worker.py", "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the PyTorch process ended with status {self.process.wait()}")
        return json.loads(line)


def run_perpend(arguments, workload, dtype):
    command = [ROOT / "build/torch/bin/perpend", "bench", "attention", "--workload", workload["name"]]
    command += ["--dtype", dtype, "--threads", str(arguments.threads), "--reps", str(arguments.reps), "--without-dense"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return next(line for line in map(json.loads, lines) if line["workload"] == workload["name"])


def measure(arguments, peer, workload, dtype):
    """Medians in ms: {"perpend": {"forward": x, "backward": y}, "sdpa": ...}, and what failed."""
    times = collections.defaultdict(lambda: collections.defaultdict(list))
    notes = {}
    peers = ["sdpa_mask", "flex"] if workload["structured"] else ["sdpa"]
    for round_number in range(arguments.rounds):
        say(f"{workload['name']} {dtype}, round {round_number + 1} of {arguments.rounds}")
        ours = run_perpend(arguments, workload, dtype)
        times["perpend"]["forward"].append(ours["fwd_ms"])
        if ours["bwd_ms"] is not None:
            times["perpend"]["backward"].append(ours["bwd_ms"])
        for name in peers:
            if name in notes:
                continue
            result = peer.ask(workload=workload, dtype=dtype, peer=name, backward=name != "flex", reps=arguments.reps)
            if "error" in result:
                notes[name] = result["error"]
                continue
            times[name]["forward"] += result["fwd_ms"]
            times[name]["backward"] += result["bwd_ms"] or []
    medians = {
        name: {part: statistics.median(values) for part, values in parts.items() if values} for name, parts in times.items()
    }
    return medians, notes


def ratios_of(medians, structured):
    """Peer / Perpend: forward against the fastest, backward and both against the fastest that has them."""
    ours = medians["perpend"]
    peers = [times for name, times in medians.items() if name != "perpend"]
    fastest = lambda value: min((value(times) for times in peers if "backward" in times), default=None)
    found = {"forward": min((times["forward"] for times in peers), default=None)}
    if "backward" in ours:
        found["backward"] = fastest(lambda times: times["backward"])
        found["both"] = fastest(lambda times: times["forward"] + times["backward"])
        ours = {**ours, "both": ours["forward"] + ours["backward"]}
    return {part: time / ours[part] for part, time in found.items() if time is not None}


def time_text(medians, name, part):
    parts = ("forward", "backward") if part == "both" else (part,)
    times = medians.get(name, {})
    return f"{sum(times[p] for p in parts):.2f}" if all(p in times for p in parts) else "-"


def report(results):
    """Prints the table; whether every floor is met."""
    good = True
    print(f"{'workload':<32} {'type':<5} {'part':<9} {'Perpend':>9} {'SDPA':>9} {'Flex':>9}  {'ratio':>6}  floor")
    for result in results:
        medians = result["medians"]
        for part in ("forward", "backward", "both"):
            ratio = result["ratios"].get(part)
            floor = FLOORS[result["structured"]].get(part)
            if ratio is None:
                if floor is not None:
                    good = False
                    print(f"{result['workload']:<32} {result['dtype']:<5} {part:<9} not measured")
                continue
            missed = floor is not None and ratio < floor
            good = good and not missed
            sdpa = "sdpa_mask" if result["structured"] else "sdpa"
            times = " ".join(f"{time_text(medians, name, part):>9}" for name in ("perpend", sdpa, "flex"))
            print(
                f"{result['workload']:<32} {result['dtype']:<5} {part:<9} {times}  {ratio:6.2f}  {floor or '-'}"
                f"{'  MISSED' if missed else ''}"
            )
        for peer, error in result["failed"].items():
            print(f"  {peer}: {error}")
    print("times in ms; ratio: the fastest peer's time / Perpend's")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reps", type=int, default=5, help="calls of each side in a round")
    parser.add_argument("--dtype", nargs="+", default=["bf16", "f32"])
    parser.add_argument("--only", default="", help="only workloads whose name holds this")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    parser.add_argument("--check", action="store_true", help="status 1 when a floor is missed")
    arguments = parser.parse_args()
    subprocess.run([ROOT / "run", "--version"], check=True, stdout=subprocess.DEVNULL)
    workloads = json.loads((ROOT / "bench/workloads.json").read_text())["cpu"]
    peer = Peer(arguments.threads)
    results = []
    for workload in workloads:
        for dtype in arguments.dtype if arguments.only in workload["name"] else []:
            medians, failed = measure(arguments, peer, workload, dtype)
            results.append({
                "workload": workload["name"], "dtype": dtype, "structured": workload["structured"],
                "threads": arguments.threads, "medians": medians, "failed": failed,
                "ratios": ratios_of(medians, workload["structured"]),
            })  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    good = report(results)
    sys.exit(0 if good or not arguments.check else 1)


if __name__ == "__main__":
    main()
