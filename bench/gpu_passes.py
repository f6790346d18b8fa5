"""Forward and backward passes of a workload on a GPU for compare_gpu.py: ours and the peers', checked, then timed."""

import dataclasses
import functools
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import gpu_attention
import gpu_flex
from gpu_checks import check_gradients, check_rows, relative
from gpu_timing import Turns, take_turns
from gpu_workloads import Workload, causal

TILE = 128


@dataclasses.dataclass(frozen=True)
class Bench:
    library: gpu_attention.Library
    turns: Turns
    peers: tuple[str, ...] = ("cudnn", "flex")


def sdpa(is_causal: bool):
    def run(q, k, v):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    return run


def peers_of(workload: Workload, bench: Bench) -> dict:
    """Calls (q, k, v) -> o of the peers that have the mask."""
    calls = {}
    if "cudnn" in bench.peers and workload.function in (None, causal):
        calls["cudnn"] = sdpa(workload.function is causal)
    if "flex" in bench.peers:
        calls["flex"] = gpu_flex.peer(workload)
    return calls


def agreeing(name: str, ours: list, calls: dict, most: float) -> dict:
    """The calls that run here; their answers must be ours but for a relative difference below `most`."""
    kept = {}
    for peer, call in calls.items():
        try:
            theirs = call()
        except RuntimeError as error:
            print(f"{name}: {peer} does not run: {str(error).splitlines()[0]}", flush=True)
            continue
        differences = [relative(mine, its) for mine, its in zip(ours, theirs)]
        if not max(differences) < most:
            raise AssertionError(f"{name}: we and {peer} differ by {differences}")
        kept[peer] = call
    return kept


class Pass:
    """A planned workload with operands, the answer of which is right."""

    def __init__(self, workload: Workload, bench: Bench):
        self.workload, self.bench = workload, bench
        self.operands = gpu_flex.operands_of(workload)
        self.plan = gpu_attention.Plan(bench.library, workload.mask, workload.labels, *self.operands[:2])
        self.plan.o.fill_(float("nan"))
        self.plan.lse.fill_(float("nan"))
        self.o, self.lse = self.plan.run(*self.operands)
        self.error = check_rows(workload.function, *self.operands, self.o, self.lse)
        if not self.error < 5e-3:
            raise AssertionError(f"{workload.name}: our answer is off by {self.error}")

    def result(self, calls: dict, operations: int) -> dict:
        """Times of calls in turns; `operations`: of a live pair and column of a head."""
        cost = {field: getattr(self.plan.cost, field) for field, _ in self.plan.cost._fields_}
        result = {"workload": self.workload.name, **self.workload.shape, **cost, "error": self.error}
        multiprocessors = torch.cuda.get_device_properties("cuda").multi_processor_count
        tiles = cost["computed_pairs"] / TILE**2 / multiprocessors
        for peer, times in take_turns(calls, self.bench.library, self.bench.turns).items():
            summary = times.summary()
            result[peer] = {**summary,
                            "tflops": cost["live_pairs"] * operations * self.workload.D / summary["ms"] / 1e9,
                            "clocks_per_tile": statistics.median(times.clocks) / tiles}
        result["tile_tflops"] = cost["computed_pairs"] * operations * self.workload.D / result["perpend"]["ms"] / 1e9
        return result


@torch.no_grad()
def forward(workload: Workload, bench: Bench) -> dict:
    made = Pass(workload, bench)
    calls = {peer: lambda call=call: [call(*made.operands)] for peer, call in peers_of(workload, bench).items()}
    calls = agreeing(workload.name, [made.o], calls, 1e-2)
    return made.result({"perpend": functools.partial(made.plan.run, *made.operands), **calls}, 4)


def our_gradients(made: Pass, d_o, **form):
    gradients = [torch.full_like(x, float("nan")) for x in made.operands]

    def run():
        made.plan.backward(*made.operands, d_o, *gradients, **form)
        return gradients
    return run


def peers_gradients(call, operands: list, d_o):
    leaves = [x.detach().requires_grad_() for x in operands]
    forward_once = functools.cache(lambda: call(*leaves))
    return lambda: torch.autograd.grad(forward_once(), leaves, d_o, retain_graph=True)


def backward(workload: Workload, bench: Bench, fused: bool) -> dict:
    """The gradients of q, k and v alone; "turns": by one pass, in an order; `fused`: also in none."""
    made = Pass(workload, bench)
    d_o = torch.randn_like(made.o)
    ours = {"perpend": our_gradients(made, d_o), "turns": our_gradients(made, d_o, in_turns=True)}
    if fused:
        ours["fused"] = our_gradients(made, d_o, deterministic=False)
    made.error = max(check_gradients(workload.function, *made.operands, made.o, made.lse, d_o, run())
                     for run in ours.values())
    if not made.error < 1e-2:
        raise AssertionError(f"{workload.name}: our gradients are off by {made.error}")
    calls = {peer: peers_gradients(call, made.operands, d_o) for peer, call in peers_of(workload, bench).items()}
    return made.result({**ours, **agreeing(workload.name, ours["perpend"](), calls, 1.5e-2)}, 10)


HEADER = (f"{'workload':<32}{'ms':>9}{'TFLOP/s':>9}{'tiles':>7}{'clocks':>8}{'MHz':>6}{'turns':>8}{'fused':>8}{'cudnn':>8}{'flex':>8}"
          f"{'x turns':>9}{'x fused':>9}{'x cudnn':>9}{'x flex':>8}  error")


def row_of(r: dict) -> str:
    ours = r["perpend"]
    row = (f"{r['workload']:<32}{ours['ms']:>9.4f}{ours['tflops']:>9.1f}{r['tile_tflops']:>7.0f}"
           f"{ours['clocks_per_tile']:>8.0f}{ours['mhz']:>6.0f}")
    for peer in ("turns", "fused", "cudnn", "flex"):
        row += f"{r[peer]['tflops']:>8.1f}" if peer in r else f"{'':>8}"
    for peer, width in (("turns", 9), ("fused", 9), ("cudnn", 9), ("flex", 8)):
        row += f"{r[peer]['ms'] / ours['ms']:>{width}.3f}" if peer in r else " " * width
    return row + f"  {r['error']:.1e}"
