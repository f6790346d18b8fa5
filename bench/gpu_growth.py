"""Time and memory of one mask at growing lengths, for compare_gpu.py.

Every length runs in bursts of equal time, and the lengths take turns in an order that changes from round to round:
long bursts reach the GPU's power limit, which slows it down, short ones do not, and a pair must not seem to cost more
because of that. Memory is what the device has less of with operands, plan and a first call.
"""

import random
import statistics
import time

import torch

from gpu_passes import TILE, Bench, Pass
from gpu_timing import Times, burst

MILLISECONDS = 200  # of a burst: a dozen calls of the longest
BASE = 32768  # tokens, from which on a pair should cost the same


def bytes_in_use() -> int:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return total - free


def milliseconds_of(call, library) -> float:
    times = Times()
    burst(call, 5, library, times)
    return statistics.median(times.milliseconds)


@torch.no_grad()
def measure(workloads: list, bench: Bench) -> list[dict]:
    made = []
    for workload in workloads[:1]:
        Pass(workload, bench)  # kernels are loaded once
    for workload in workloads:
        before = bytes_in_use()
        one = Pass(workload, bench)
        num_bytes = bytes_in_use() - before
        call = lambda one=one: one.plan.run(*one.operands)
        count = max(1, round(MILLISECONDS / milliseconds_of(call, bench.library)))
        made.append((one, call, count, num_bytes, Times()))
    order = random.Random(0)
    for _ in range(bench.turns.rounds):
        for one, call, count, _, times in order.sample(made, len(made)):
            time.sleep(bench.turns.pause)
            burst(call, count, bench.library, times, each=False)
    return with_shares([result_of(*one) for one in made])


def result_of(one: Pass, call, count: int, num_bytes: int, times: Times) -> dict:
    cost, tokens = one.plan.cost, one.workload.S
    multiprocessors = torch.cuda.get_device_properties("cuda").multi_processor_count
    tiles = cost.computed_pairs / TILE**2 / multiprocessors
    summary = times.summary()
    return {"workload": one.workload.name, **one.workload.shape, "calls": count, **summary, "error": one.error,
            "live_pairs": cost.live_pairs, "plan_ms": cost.plan_ms,
            "ns_per_pair": summary["ms"] * 1e6 / cost.live_pairs,
            "clocks_per_tile": statistics.median(times.clocks) / tiles, "bytes": num_bytes,
            "bytes_per_token": num_bytes / tokens}


def with_shares(results: list[dict]) -> list[dict]:
    """Time a live pair, clocks a tile and memory a token as shares of those at BASE tokens."""
    base = next((r for r in results if r["S"] == BASE), results[0] if results else {})
    return [{**r, **{f"{key}_share": r[key] / base[key] for key in ("ns_per_pair", "clocks_per_tile", "bytes_per_token")}}
            for r in results]


HEADER = (f"{'workload':<20}{'calls':>6}{'ms':>9}{'x base':>8}{'clocks':>8}{'x base':>8}{'MHz':>6}{'MB':>8}{'bytes/token':>13}"
          f"{'x base':>8}{'plan ms':>9}  error")


def row_of(r: dict) -> str:
    return (f"{r['workload']:<20}{r['calls']:>6}{r['ms']:>9.4f}{r['ns_per_pair_share']:>8.3f}"
            f"{r['clocks_per_tile']:>8.0f}{r['clocks_per_tile_share']:>8.3f}{r['mhz']:>6.0f}{r['bytes'] / 1e6:>8.0f}"
            f"{r['bytes_per_token']:>13.0f}{r['bytes_per_token_share']:>8.3f}{r['plan_ms']:>9.2f}  {r['error']:.1e}")
