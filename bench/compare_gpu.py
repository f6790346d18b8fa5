#!/usr/bin/env python3
"""Perpend, FlexAttention and cuDNN (PyTorch's SDPA) on the GPU workloads, in one process.

Peers take turns in short bursts, so that all of them see the same clocks; the table has medians of
all bursts and ratios. Rates count 4 * head_dim operations a live pair, 10 * head_dim with --backward,
which times the gradients of q, k and v alone, "fused" those whose sums have no fixed order. "tiles" is the rate of all pairs that were computed,
"clocks" what a multiprocessor took for 128 x 128 of them, which does not depend on its frequency. Every answer of ours is held against float64 rows of
the mask and against the peers before anything is timed.

With --decode: steps of a decode loop over pages (gpu_decode.py).

    PYTHONPATH=bench python3 bench/compare_gpu.py [--build build-cuda] [--only TEXT] [--dense | --growth | --decode]
        [--backward [--fused]] [--json FILE]
"""

import argparse
import functools
import json
import pathlib
import statistics
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention

import gpu_attention
import gpu_decode

ROOT = pathlib.Path(__file__).resolve().parent
DEVICE = "cuda"
BLOCK = 128  # of FlexAttention's block masks, its own default


def causal(b, h, q, k):
    return q >= k


def sink_window(sink, window):
    return lambda b, h, q, k: (q >= k) & ((k < sink) | (q - k < window))


def strided_blocks(stride):
    return lambda b, h, q, k: (q >= k) & ((q // 64 - k // 64 < 16) | ((k // 64 + h) % stride == 0))


def upto_block(n):
    return lambda b, h, q, k: q // n >= k // n


def block_diffusion(n, block):
    def visible(b, h, q, k):
        q_clean, k_clean = q >= n, k >= n
        q_block = torch.where(q_clean, q - n, q) // block
        k_block = torch.where(k_clean, k - n, k) // block
        return (((q_block == k_block) & ~q_clean & ~k_clean) | ((q_block > k_block) & k_clean & ~q_clean)
                | ((q_block >= k_block) & k_clean & q_clean))
    return visible


def documents(length, count):
    def visible(b, h, q, k):
        same = (q // length == k // length) | (k // length == 0)
        return (q >= k) & (same | (q >= length * count))
    return visible


# The masks of bench/workloads.json once more, as PyTorch functions; None: all.
MASKS = {
    "dense_16k_d128": None,
    "causal_16k_d128": causal,
    "causal_4k_d64": causal,
    "sink_window_32k": sink_window(128, 1024),
    "sink_window_128k": sink_window(128, 2048),
    "strided_blocks_32k": strided_blocks(16),
    "strided_blocks_128k": strided_blocks(64),
    "block_causal_32": upto_block(32),
    "block_diffusion_train_2x4k_b32": block_diffusion(4096, 32),
    "documents_100x160": documents(160, 101),
    "documents_500x200": documents(200, 501),
    "frame_causal_144x32": upto_block(144),
    "window2d_8_side256": lambda b, h, q, k: q // 64 == k // 64,
}
# One mask at growing lengths, the time of whose live pairs should stay the same.
GROWTH = [8192 << i for i in range(8)]
# Dense and causal beside the workloads: (tokens, batch, heads, head_dim).
DENSE = [(16384, 1, 16, 128), (4096, 4, 16, 128), (2048, 8, 16, 128), (32768, 1, 16, 128),
         (16384, 1, 32, 64), (4096, 4, 32, 64), (16384, 1, 8, 256)]


def workloads(options) -> list[dict]:
    if options.growth:
        return [{"name": f"sink_window_{tokens // 1024}k", "mask": "causal & (sink(128) | window(2048))", "B": 1,
                 "Hq": 8, "Hkv": 8, "S": tokens, "D": 128, "structured": False} for tokens in GROWTH]
    if not options.dense:
        return json.loads((ROOT / "workloads.json").read_text())["gpu_bf16"]
    return [{"name": f"{mask}_{batch}x{tokens}_d{dim}", "mask": "all" if mask == "dense" else "causal",
             "B": batch, "Hq": heads, "Hkv": heads, "S": tokens, "D": dim, "structured": False}
            for tokens, batch, heads, dim in DENSE for mask in ("dense", "causal")]


def visible(mask, head, rows, keys):
    head = torch.tensor(head, device=DEVICE)
    return mask(0, head, rows[:, None], keys[None, :]).expand(len(rows), len(keys))


def block_mask(mask, heads: int, tokens: int) -> BlockMask:
    """What create_block_mask gives, a strip of queries at a time."""
    num_blocks = tokens // BLOCK
    some = torch.zeros(heads, num_blocks, num_blocks, dtype=torch.bool, device=DEVICE)
    every = torch.zeros_like(some)
    strip = max(1, (1 << 28) // (tokens * BLOCK))
    keys = torch.arange(tokens, device=DEVICE)
    for head in range(heads):
        for first in range(0, num_blocks, strip):
            last = min(first + strip, num_blocks)
            rows = torch.arange(first * BLOCK, last * BLOCK, device=DEVICE)
            tiles = visible(mask, head, rows, keys).reshape(last - first, BLOCK, num_blocks, BLOCK)
            count = tiles.sum(dim=(1, 3), dtype=torch.int32)
            some[head, first:last] = (count > 0) & (count < BLOCK * BLOCK)
            every[head, first:last] = count == BLOCK * BLOCK

    def lists(kind):
        number = kind.sum(dim=-1, dtype=torch.int32)[None]
        order = torch.argsort(kind.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)[None]
        return number, order

    return BlockMask.from_kv_blocks(*lists(some), *lists(every), BLOCK_SIZE=BLOCK, mask_mod=mask)


def relative(found, expected) -> float:
    error = (found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30)
    return float(error) if torch.isfinite(error) else float("inf")


def samples(tokens: int, batch: int, heads: int):
    """Some rows, and some heads of some batch entries."""
    rows = torch.randint(tokens, (24,), generator=torch.Generator().manual_seed(7))
    rows = torch.cat([rows, torch.tensor([0, 1, tokens - 1])]).to(DEVICE)
    return rows, {(0, 0), (batch - 1, heads - 1), (0, heads // 2)}


def check_rows(mask, q, k, v, o, lse) -> float:
    """The worst relative error of some rows of some heads, in float64 from the mask's definition."""
    batch, heads, tokens, dim = q.shape
    keys = torch.arange(tokens, device=DEVICE)
    rows, places = samples(tokens, batch, heads)
    worst = 0.0
    for b, head in places:
        kv = head * k.shape[1] // heads
        scores = q[b, head, rows].double() @ k[b, kv].double().T / dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~visible(mask, head, rows, keys), float("-inf"))
        expected = torch.nan_to_num(torch.softmax(scores, dim=-1)) @ v[b, kv].double()
        worst = max(worst, relative(o[b, head, rows], expected))
        off = (lse[b, head, rows].double() - torch.logsumexp(scores, dim=-1)).abs().max()
        if not off < 1e-3:
            raise AssertionError(f"lse is off by {float(off)}")
    return worst


def check_gradients(mask, q, k, v, o, lse, d_o, gradients) -> float:
    """The same of some rows of dq, dk and dv, from o and lse, which check_rows() has seen."""
    dq, dk, dv = gradients
    batch, heads, tokens, dim = q.shape
    group = heads // k.shape[1]
    every = torch.arange(tokens, device=DEVICE)
    rows, places = samples(tokens, batch, heads)

    def weights(b, head, queries, keys):
        """p and the gradient of the scaled scores, [queries, keys]."""
        of = lambda x: x[b, head, queries].double()
        kv = lambda x: x[b, head // group, keys].double()
        p = torch.exp(of(q) @ kv(k).T / dim**0.5 - lse[b, head, queries].double()[:, None])
        if mask is not None:
            p = p * visible(mask, head, queries, keys)
        return p, p * (of(d_o) @ kv(v).T - (of(d_o) * of(o)).sum(-1, keepdim=True))

    worst = 0.0
    for b, head in places:
        kv = head // group
        _, d_s = weights(b, head, rows, every)
        worst = max(worst, relative(dq[b, head, rows], d_s @ k[b, kv].double() / dim**0.5))
        expected_dk = expected_dv = 0.0
        for h in range(kv * group, (kv + 1) * group):
            p, d_s = weights(b, h, every, rows)
            expected_dk = expected_dk + d_s.T @ q[b, h].double() / dim**0.5
            expected_dv = expected_dv + p.T @ d_o[b, h].double()
        worst = max(worst, relative(dk[b, kv, rows], expected_dk), relative(dv[b, kv, rows], expected_dv))
    return worst


def sdpa(backend, is_causal):
    def run(q, k, v):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    return run


def our_gradients(plan, operands: list, d_o, deterministic=True):
    gradients = [torch.full_like(x, float("nan")) for x in operands]

    def run():
        plan.backward(*operands, d_o, *gradients, deterministic=deterministic)
        return gradients
    return run


def peers_gradients(call, operands: list, d_o):
    leaves = [x.detach().requires_grad_() for x in operands]
    forward = functools.cache(lambda: call(*leaves))
    return lambda: torch.autograd.grad(forward(), leaves, d_o, retain_graph=True)


def burst(call, count: int, library) -> tuple[list[float], float]:
    """The milliseconds of each call, and clocks of a multiprocessor a call."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    call()
    begin = library.clocks()
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    end = library.clocks()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in zip(events, events[1:])]
    return times, float((end - begin).double().median()) / count


def operands_of(line: dict) -> list[torch.Tensor]:
    return [torch.randn((line["B"], heads, line["S"], line["D"]), device=DEVICE, dtype=torch.bfloat16)
            for heads in (line["Hq"], line["Hkv"], line["Hkv"])]


def peers_of(line: dict, function, options) -> dict:
    """Calls (q, k, v) -> o of the peers that have the mask."""
    calls = {}
    if "cudnn" in options.peers and (function is None or function is causal):
        calls["cudnn"] = sdpa(SDPBackend.CUDNN_ATTENTION, function is causal)
    if "flex" in options.peers and not options.dense and not options.growth:
        torch._dynamo.reset()
        flex = torch.compile(flex_attention, dynamic=False)
        blocks = None
        if function is not None:
            blocks = block_mask(function, line["Hq"] if "strided" in line["name"] else 1, line["S"])
        calls["flex"] = lambda q, k, v: flex(q, k, v, block_mask=blocks, enable_gqa=line["Hq"] != line["Hkv"])
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


def times_of(calls: dict, library, options) -> dict:
    """Milliseconds of all calls and clocks a call of all bursts, of each peer."""
    times = {peer: ([], []) for peer in calls}
    with torch.set_grad_enabled(options.backward):
        for _ in range(options.rounds):
            for peer, call in calls.items():
                time.sleep(options.pause)
                milliseconds, clocks = burst(call, options.burst, library)
                times[peer][0].extend(milliseconds)
                times[peer][1].append(clocks)
    return times


def function_of(line: dict, options):
    if options.growth:
        return sink_window(128, 2048)
    return {"all": None, "causal": causal}.get(line["mask"]) if options.dense else MASKS[line["name"]]


def measure(line: dict, library, options) -> dict:
    name, mask = line["name"], line["mask"]
    function = function_of(line, options)
    q, k, v = operands_of(line)
    labels = "; ".join(f"{key} = {value}" for key, value in line.get("labels", {}).items())
    plan = gpu_attention.Plan(library, mask, labels, q, k)
    plan.o.fill_(float("nan"))
    plan.lse.fill_(float("nan"))
    o, lse = plan.run(q, k, v)
    result = {"workload": name, **{key: line[key] for key in ("B", "Hq", "Hkv", "S", "D", "structured")},
              "plan_ms": plan.cost.plan_ms, "live_pairs": plan.cost.live_pairs,
              "computed_pairs": plan.cost.computed_pairs, "items": plan.cost.items,
              "full_tiles": plan.cost.full_tiles, "partial_tiles": plan.cost.partial_tiles,
              "half_skipped": plan.cost.half_skipped, "gathered": plan.cost.gathered,
              "error": check_rows(function, q, k, v, o, lse)}
    if not result["error"] < 5e-3:
        raise AssertionError(f"{name}: our answer is off by {result['error']}")
    peers = peers_of(line, function, options)
    if options.backward:
        d_o = torch.randn_like(q)
        ours = our_gradients(plan, [q, k, v], d_o)
        calls = {peer: peers_gradients(call, [q, k, v], d_o) for peer, call in peers.items()}
        both = [ours]
        if options.fused:
            calls["fused"] = our_gradients(plan, [q, k, v], d_o, deterministic=False)
            both.append(calls["fused"])
        result["error"] = max(check_gradients(function, q, k, v, o, lse, d_o, run()) for run in both)
        if not result["error"] < 1e-2:
            raise AssertionError(f"{name}: our gradients are off by {result['error']}")
        calls = agreeing(name, ours(), calls, 1.5e-2)
    else:
        ours = functools.partial(plan.run, q, k, v)
        calls = {peer: lambda call=call: [call(q, k, v)] for peer, call in peers.items()}
        calls = agreeing(name, [o], calls, 1e-2)
    operations = (10 if options.backward else 4) * line["D"]
    tiles = result["computed_pairs"] / BLOCK**2 / torch.cuda.get_device_properties(DEVICE).multi_processor_count
    for peer, (found, clocks) in times_of({"perpend": ours, **calls}, library, options).items():
        median = statistics.median(found)
        result[peer] = {"ms": median, "min_ms": min(found), "max_ms": max(found),
                        "tflops": result["live_pairs"] * operations / median / 1e9,
                        "clocks_per_tile": statistics.median(clocks) / tiles}
    result["tile_tflops"] = result["computed_pairs"] * operations / result["perpend"]["ms"] / 1e9
    return result


HEADER = (f"{'workload':<32}{'ms':>9}{'TFLOP/s':>9}{'tiles':>7}{'clocks':>8}{'fused':>8}{'cudnn':>8}{'flex':>8}"
          f"{'x fused':>9}{'x cudnn':>9}{'x flex':>8}  error")


def row_of(r: dict) -> str:
    ours = r["perpend"]
    row = (f"{r['workload']:<32}{ours['ms']:>9.4f}{ours['tflops']:>9.1f}{r['tile_tflops']:>7.0f}"
           f"{ours['clocks_per_tile']:>8.0f}")
    for peer in ("fused", "cudnn", "flex"):
        row += f"{r[peer]['tflops']:>8.1f}" if peer in r else f"{'':>8}"
    for peer, width in (("fused", 9), ("cudnn", 9), ("flex", 8)):
        row += f"{r[peer]['ms'] / ours['ms']:>{width}.3f}" if peer in r else " " * width
    return row + f"  {r['error']:.1e}"


def growth_of(results: list[dict]) -> str:
    """Time a live pair, against that of the first length from 32k tokens on."""
    per_pair = {r["S"]: r["perpend"]["ms"] / r["live_pairs"] for r in results}
    base = per_pair.get(32768)
    return "time a live pair: " + ", ".join(f"{s // 1024}k {t / base:.3f}" for s, t in per_pair.items()) if base else ""


def summary(results: list[dict]) -> str:
    ratios = [r["flex"]["ms"] / r["perpend"]["ms"] for r in results if r["structured"] and "flex" in r]
    if not ratios:
        return ""
    return (f"structured workloads against FlexAttention: geometric mean "
            f"{statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build-cuda", help="build folder with the library")
    parser.add_argument("--only", default="", help="workloads whose name holds this, or one of these: a,b")
    parser.add_argument("--dense", action="store_true", help="dense and causal attention of several lengths instead")
    parser.add_argument("--growth", action="store_true", help="a sink and a window at 8k to 1M tokens, without peers")
    parser.add_argument("--decode", action="store_true", help="decode steps over pages instead, in GB/s")
    parser.add_argument("--peers", default="cudnn,flex")
    parser.add_argument("--backward", action="store_true", help="the backward pass alone")
    parser.add_argument("--fused", action="store_true", help="beside it that with sums in any order")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--burst", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before a burst")
    parser.add_argument("--json", default="", help="file for all figures")
    options = parser.parse_args()
    torch.manual_seed(0)
    library = gpu_attention.Library(options.build)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, medians of {options.rounds} x {options.burst} calls")
    print(gpu_decode.HEADER if options.decode else HEADER, flush=True)
    results = []
    for line in gpu_decode.WORKLOADS if options.decode else workloads(options):
        if not any(text in line["name"] for text in options.only.split(",")):
            continue
        try:
            if options.decode:
                results.append(gpu_decode.measure(line, library, options, times_of))
                print(gpu_decode.row_of(results[-1]), flush=True)
            else:
                results.append(measure(line, library, options))
                print(row_of(results[-1]), flush=True)
        except (AssertionError, RuntimeError) as error:
            print(f"{line['name']}: FAILED: {error}", flush=True)
        torch.cuda.empty_cache()
    if not options.decode:
        print(growth_of(results) if options.growth else summary(results))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"device": torch.cuda.get_device_name(),
                                                          "torch": torch.__version__, "results": results}, indent=1))


main()
