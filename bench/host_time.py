#!/usr/bin/env python3
"""Time that the host spends on a small call of perpend.attention(), beside scaled_dot_product_attention.

    PYTHONPATH=build/torch/python python3 bench/host_time.py [--device cpu|cuda] [--rounds 15]

Causal attention: on a GPU of [1, 8, 128, 64] in bfloat16, whose kernels are done before the host has asked for the next
ones; on a CPU of [1, 1, 8, 16] in float32 with one thread, which is next to nothing. Rounds alternate; figures are
the least mean of a round's calls. `both` is a forward and a backward pass, as torch.autograd.grad() runs them.
"""

import argparse
import time

import torch

import perpend

CALLS_OF_A_ROUND = 300


def sdpa(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def ours(q, k, v):
    return perpend.attention(q, k, v, "causal")


def microseconds(call, device):
    begin = time.perf_counter()
    for _ in range(CALLS_OF_A_ROUND):
        call()
    passed = time.perf_counter() - begin
    if device == "cuda":
        torch.cuda.synchronize()
    return passed / CALLS_OF_A_ROUND * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape, dtype = ((1, 8, 128, 64), torch.bfloat16) if arguments.device == "cuda" else ((1, 1, 8, 16), torch.float32)
    inputs = [torch.randn(shape, device=arguments.device, dtype=dtype) for _ in range(3)]
    leaves = [x.clone().requires_grad_() for x in inputs]
    d_o = torch.ones_like(inputs[0])
    calls = {
        (what, who.__name__): call
        for who in (sdpa, ours)
        for what, call in {
            "forward, without gradients": lambda who=who: who(*inputs),
            "forward, for gradients": lambda who=who: who(*leaves),
            "both": lambda who=who: torch.autograd.grad(who(*leaves), leaves, d_o),
        }.items()
    }
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(arguments.rounds + 1):
        for key, call in calls.items():
            least[key] = min(least[key], microseconds(call, arguments.device))
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"host time of a call on {where}, torch {torch.__version__}, us")
    print(f"{'':<28} {'SDPA':>8} {'Perpend':>8}")
    for what in dict.fromkeys(what for what, _ in calls):
        print(f"{what:<28} {least[what, 'sdpa']:>8.1f} {least[what, 'ours']:>8.1f}")


if __name__ == "__main__":
    main()
