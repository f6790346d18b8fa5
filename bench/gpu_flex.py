#!/usr/bin/env python3
"""FlexAttention as a peer of the GPU comparisons. As a program, gpu_flex.py [--gradients] NAME compiles it for one
workload and ends: what torch.compile makes stays in its caches, so several at a time spare one process the wait."""

import argparse
import concurrent.futures
import functools
import os
import subprocess
import sys
import time

import torch
import torch._functorch.config
from torch.nn.attention.flex_attention import BlockMask, flex_attention

import gpu_workloads
from gpu_workloads import Workload

DEVICE = "cuda"
BLOCK = 128  # of its block masks, its own default
PROCESSES = 8
SECONDS = 200  # of a process

# A graph whose buffers are donated to its gradients can run those once only.
torch._functorch.config.donated_buffer = False


def operands_of(workload: Workload) -> list[torch.Tensor]:
    """Random q, k and v, [batch, heads, tokens, head_dim]."""
    return [torch.randn((workload.B, heads, workload.S, workload.D), device=DEVICE, dtype=torch.bfloat16)
            for heads in (workload.Hq, workload.Hkv, workload.Hkv)]


@functools.cache
def block_mask(workload: Workload) -> BlockMask:
    """What create_block_mask gives, a strip of queries at a time."""
    heads = workload.Hq if "strided" in workload.name else 1
    num_blocks = workload.S // BLOCK
    some = torch.zeros(heads, num_blocks, num_blocks, dtype=torch.bool, device=DEVICE)
    every = torch.zeros_like(some)
    strip = max(1, (1 << 26) // (workload.S * BLOCK))
    keys = torch.arange(workload.S, device=DEVICE, dtype=torch.int32)
    for head in range(heads):
        for first in range(0, num_blocks, strip):
            last = min(first + strip, num_blocks)
            rows = keys[first * BLOCK:last * BLOCK]
            tiles = gpu_workloads.visible(workload.function, head, rows, keys)
            count = tiles.reshape(last - first, BLOCK, num_blocks, BLOCK).sum(dim=(1, 3), dtype=torch.int32)
            some[head, first:last] = (count > 0) & (count < BLOCK * BLOCK)
            every[head, first:last] = count == BLOCK * BLOCK

    def lists(kind):
        number = kind.sum(dim=-1, dtype=torch.int32)[None]
        order = torch.argsort(kind.to(torch.int8), dim=-1, descending=True, stable=True).to(torch.int32)[None]
        return number, order

    return BlockMask.from_kv_blocks(*lists(some), *lists(every), BLOCK_SIZE=BLOCK, mask_mod=workload.function)


def peer(workload: Workload):
    """A call (q, k, v) -> o, compiled when it is first called."""
    torch._dynamo.reset()  # it refuses to compile one function too often
    flex = torch.compile(flex_attention, dynamic=False)
    blocks = None if workload.function is None else block_mask(workload)
    return lambda q, k, v: flex(q, k, v, block_mask=blocks, enable_gqa=workload.Hq != workload.Hkv)


def compile_alone(workload: Workload, gradients: bool) -> str:
    """In a process of its own; what is wrong, or nothing."""
    command = [sys.executable, __file__, *(["--gradients"] if gradients else []), workload.name]
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"{workload.name}: not compiled in {SECONDS} s"
    return f"{workload.name}: {done.stderr.strip().splitlines()[-1:]}" if done.returncode else ""


def compile_ahead(workloads: list[Workload], gradients: bool) -> None:
    """For all workloads in processes beside each other. What fails here is compiled when it is called."""
    begin = time.time()
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        faults = list(filter(None, pool.map(functools.partial(compile_alone, gradients=gradients), workloads)))
    print(f"FlexAttention compiled for {len(workloads) - len(faults)} workloads in {time.time() - begin:.0f} s")
    print("\n".join(faults), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--gradients", action="store_true")
    options = parser.parse_args()
    workload = next(w for w in gpu_workloads.of_file() if w.name == options.name)
    q, k, v = operands_of(workload)
    call = peer(workload)
    if options.gradients:
        leaves = [x.requires_grad_() for x in (q, k, v)]
        torch.autograd.grad(call(*leaves), leaves, torch.ones_like(q))
    else:
        with torch.no_grad():
            call(q, k, v)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
