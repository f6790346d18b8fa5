"""PyTorch's side of compare_torch_cpu.py: answers requests, one JSON object a line, until its input ends.

Request: {"workload": {...}, "dtype": "bf16", "peer": "sdpa" | "sdpa_mask" | "flex", "backward": bool, "reps": n}.
Answer: {"fwd_ms": [...], "bwd_ms": [...] or null, "first_call_s": x}, or {"error": "..."}.
"""

import argparse
import json
import sys
import time

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch_masks import parse

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class Problem:
    """The tensors of one workload in one type, [B, H, S, D]."""

    def __init__(self, workload, dtype):
        torch.manual_seed(0)
        w = self.workload = workload
        make = lambda heads: (torch.rand(w["B"], heads, w["S"], w["D"]) * 4 - 2).to(DTYPES[dtype])
        self.q, self.k, self.v = make(w["Hq"]), make(w["Hkv"]), make(w["Hkv"])
        self.group = w["Hq"] // w["Hkv"]
        self.pairs = parse(w["mask"], w.get("labels", {}), self.group)
        self.calls = {}

    def boolean_mask(self):
        w = self.workload
        heads = torch.arange(w["Hq"] if "every" in w["mask"] else 1)[:, None, None]
        out = torch.empty(1, len(heads), w["S"], w["S"], dtype=torch.bool)
        k = torch.arange(w["S"])[None, None, :]
        for first in range(0, w["S"], 1024):
            q = torch.arange(first, min(first + 1024, w["S"]))[None, :, None]
            out[0, :, first : first + 1024] = self.pairs(heads, q, k)
        return out

    def call(self, peer):
        """The function to time; made once."""
        if peer not in self.calls:
            self.calls.clear()  # masks are large
            self.calls[peer] = getattr(self, "make_" + peer)()
        return self.calls[peer]

    def make_sdpa(self):
        causal = self.workload["mask"] == "causal"
        return lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, enable_gqa=self.group > 1
        )

    def make_sdpa_mask(self):
        mask = self.boolean_mask()
        return lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=self.group > 1
        )

    def make_flex(self):
        w = self.workload
        torch._dynamo.reset()
        heads = w["Hq"] if "every" in w["mask"] else None
        mask = create_block_mask(lambda b, h, q, k: self.pairs(h, q, k), None, heads, w["S"], w["S"], device="cpu")
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda q, k, v: compiled(q, k, v, block_mask=mask, enable_gqa=self.group > 1)


SECONDS = 10  # of one measurement; at least one call


def times_of(function, reps):
    times = []
    while len(times) < reps and sum(times) < SECONDS * 1e3:
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def answer(problem, request):
    start = time.perf_counter()
    call = problem.call(request["peer"])
    operands = problem.q, problem.k, problem.v
    with torch.no_grad():
        call(*operands)
        first = time.perf_counter() - start
        forward = times_of(lambda: call(*operands), request["reps"])
    backward = None
    if request["backward"]:
        leaves = [x.detach().requires_grad_() for x in operands]
        o = call(*leaves)
        gradient = torch.ones_like(o)
        run = lambda: torch.autograd.grad(o, leaves, gradient, retain_graph=True)
        run()
        backward = times_of(run, request["reps"])
    return {"fwd_ms": forward, "bwd_ms": backward, "first_call_s": first}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    problem, key = None, None
    for line in sys.stdin:
        request = json.loads(line)
        if key != (request["workload"]["name"], request["dtype"]):
            key = request["workload"]["name"], request["dtype"]
            problem = None
            problem = Problem(request["workload"], request["dtype"])
        try:
            result = answer(problem, request)
        except Exception as error:  # a peer that can not run a workload is a result too
            problem.calls.clear()
            result = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
