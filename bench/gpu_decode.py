"""Decode steps over pages on a GPU, for compare_gpu.py: ours, FlexAttention and SDPA (both without pages).

Every call is a captured CUDA graph. Bytes are those of the keys and values that are seen, of q and of o; a
copy by PyTorch of as many bytes, half of them read and half of them written, runs in the same turns.
`update us` is what planning a step and copying its plan takes the host, `apart us` the same where no two
sequences are of one length.
"""

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

import gpu_attention
from gpu_passes import Bench
from gpu_timing import take_turns

DEVICE = "cuda"
# 32 query heads, 8 key/value heads, head_dim 128, pages of 64 keys.
WORKLOADS = [
    {"name": "decode_32x8k", "mask": "causal", "batch": 32, "q_len": 1, "kv_len": 8192},
    {"name": "decode_1x128k", "mask": "causal", "batch": 1, "q_len": 1, "kv_len": 131072},
    {"name": "decode_8x32k", "mask": "causal", "batch": 8, "q_len": 1, "kv_len": 32768},
    {"name": "decode_128x2k", "mask": "causal", "batch": 128, "q_len": 1, "kv_len": 2048},
    {"name": "decode_1x8k", "mask": "causal", "batch": 1, "q_len": 1, "kv_len": 8192},
    {"name": "decode_1x1k", "mask": "causal", "batch": 1, "q_len": 1, "kv_len": 1024},
    {"name": "block32_1x32k", "mask": "upto(block(32))", "batch": 1, "q_len": 32, "kv_len": 32768},
    {"name": "draft4_16x8k", "mask": "causal", "batch": 16, "q_len": 4, "kv_len": 8192},
]
NUM_Q_HEADS, NUM_KV_HEADS, HEAD_DIM, PAGE_SIZE = 32, 8, 128, 64


def captured(call):
    """A function that launches call() as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def paged(x, page_table, num_pages: int):
    """[batch, heads, tokens, dim] to pages [num_pages, heads, page_size, dim], the rest of which is NaN."""
    batch, heads, tokens, dim = x.shape
    pages = torch.full((num_pages, heads, PAGE_SIZE, dim), float("nan"), device=x.device, dtype=x.dtype)
    parts = x.reshape(batch, heads, tokens // PAGE_SIZE, PAGE_SIZE, dim).transpose(1, 2)
    pages[page_table.long().flatten()] = parts.reshape(-1, heads, PAGE_SIZE, dim)
    return pages


def sees(mask: str, q_len: int, kv_len: int):
    """[q_len, kv_len]: what the last q_len positions see."""
    q = torch.arange(kv_len - q_len, kv_len, device=DEVICE)[:, None]
    k = torch.arange(kv_len, device=DEVICE)[None, :]
    return q >= k if mask == "causal" else q // 32 >= k // 32


def worst_error(q, k, v, o, visible) -> float:
    """Of some heads, in float64."""
    batch, _, heads, dim = q.shape
    worst = 0.0
    for b, head in {(0, 0), (batch - 1, heads - 1), (batch // 2, heads // 3)}:
        kv = head * k.shape[1] // heads
        scores = q[b, :, head].double() @ k[b, kv].double().T / dim**0.5
        expected = torch.softmax(scores.masked_fill(~visible, float("-inf")), dim=-1) @ v[b, kv].double()
        error = (o[b, :, head].double() - expected).norm() / expected.norm()
        worst = max(worst, float(error) if torch.isfinite(error) else float("inf"))
    return worst


def peers(q, k, v, visible, names) -> dict:
    calls = {}
    per_head = q.transpose(1, 2).contiguous()
    is_all = bool(visible.all())

    def sdpa():
        return torch.nn.functional.scaled_dot_product_attention(
            per_head, k, v, attn_mask=None if is_all else visible, enable_gqa=True)

    if "cudnn" in names:
        def of_sdpa(backend):
            def run():
                with sdpa_kernel(backend):
                    return sdpa()
            return run
        calls["cudnn"] = of_sdpa(SDPBackend.CUDNN_ATTENTION)
        if is_all:
            calls["flash"] = of_sdpa(SDPBackend.FLASH_ATTENTION)
    if "flex" in names and is_all:
        torch._dynamo.reset()
        flex = torch.compile(flex_attention, dynamic=False)
        calls["flex"] = lambda: flex(per_head, k, v, enable_gqa=True)
    return calls


def measure(line: dict, bench: Bench) -> dict:
    name, mask, batch, q_len, kv_len = line.values()
    generator = torch.Generator(device=DEVICE).manual_seed(5)

    def random(*shape):
        return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, generator=generator)

    q = random(batch, q_len, NUM_Q_HEADS, HEAD_DIM)
    k, v = (random(batch, NUM_KV_HEADS, kv_len, HEAD_DIM) for _ in range(2))
    in_use = batch * kv_len // PAGE_SIZE
    num_pages = in_use + 7
    order = torch.randperm(num_pages, device=DEVICE, generator=generator)[:in_use]
    page_table = order.reshape(batch, -1).to(torch.int32).contiguous()
    plan = gpu_attention.DecodePlan(bench.library, mask, kv_len, q, paged(k, page_table, num_pages),
                                    paged(v, page_table, num_pages), page_table)
    visible = sees(mask, q_len, kv_len)
    o = plan.run()
    result = {"workload": name, "batch": batch, "q_len": q_len, "kv_len": kv_len,
              "bytes": 2 * (2 * k.numel() + 2 * q.numel()), "error": worst_error(q, k, v, o, visible),
              # Lengths that differ are planned one by one; equal ones once, and last, for the calls that follow.
              "update_apart_ms": statistics.median(plan.update(1) for _ in range(9)),
              "update_ms": statistics.median(plan.update(0) for _ in range(9))}
    if not result["error"] < 5e-3:
        raise AssertionError(f"{name}: our answer is off by {result['error']}")
    calls = {"perpend": captured(plan.run)}
    for peer, call in peers(q, k, v, visible, bench.peers).items():
        try:
            difference = float((call().transpose(1, 2).double() - o.double()).norm() / o.double().norm())
            if not difference < 1e-2:
                raise AssertionError(f"differs from us by {difference}")
            calls[peer] = captured(call)
        except (AssertionError, RuntimeError) as error:
            print(f"{name}: {peer} left out: {str(error).splitlines()[0]}", flush=True)
    source = torch.empty(result["bytes"] // 4, device=DEVICE, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    calls["copy"] = captured(lambda: target.copy_(source))
    for peer, times in take_turns(calls, bench.library, bench.turns).items():
        summary = times.summary()
        result[peer] = {**summary, "gbs": result["bytes"] / summary["ms"] / 1e6}
    result["share_of_copy"] = result["copy"]["ms"] / result["perpend"]["ms"]
    return result


PEERS = ("copy", "flash", "cudnn", "flex")
HEADER = (f"{'workload':<16}{'us':>8}{'GB/s':>7}{'of copy':>9}" + "".join(f"{peer + ' us':>10}" for peer in PEERS)
          + f"{'update us':>11}{'apart us':>10}  error")


def row_of(r: dict) -> str:
    row = f"{r['workload']:<16}{r['perpend']['ms'] * 1e3:>8.1f}{r['perpend']['gbs']:>7.0f}{r['share_of_copy']:>9.3f}"
    row += "".join(f"{r[peer]['ms'] * 1e3:>10.1f}" if peer in r else f"{'':>10}" for peer in PEERS)
    return row + f"{r['update_ms'] * 1e3:>11.0f}{r['update_apart_ms'] * 1e3:>10.0f}  {r['error']:.1e}"
