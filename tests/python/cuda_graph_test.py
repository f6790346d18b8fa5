"""perpend.attention() captured into CUDA graphs: equal bits, and plans that live as long as the graph."""

import gc
import time
import unittest

import torch

import cuda_case
import perpend
from cuda_case import CudaCase, operands


def captured(function, warm_up=True):
    """The graph of function(), and what it writes at each replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    if warm_up:
        with torch.cuda.stream(stream):
            function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        outputs = function()
    return graph, outputs


def forget_plans():
    """Asks for so many other plans that the caches keep none of those before, and reuses their memory."""
    q = torch.zeros(1, 1, 40, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    for n in range(1, 140):
        o = perpend.attention(q, q, q, f"causal & window({n})")
        torch.autograd.grad(o, q, torch.ones_like(o))
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    spoiled = [torch.full((1 << 20,), -1, device="cuda", dtype=torch.int32) for _ in range(64)]
    torch.cuda.synchronize()
    return spoiled


class CudaGraphTest(CudaCase):
    def check(self, mask, warm_up=True, dim=64, spoil=lambda: None, **options):
        """Captures forward and backward, replays them for other values, and compares bits with eager calls."""
        inputs = operands((500, 500), dim=dim)
        d_o = torch.randn_like(inputs[0])

        def step():
            o, lse = perpend.attention(*inputs, mask, return_lse=True, **options)
            return o, lse, *torch.autograd.grad(o, inputs, d_o)

        graph, outputs = captured(step, warm_up)
        for replay in range(3):
            with torch.no_grad():
                for x in (*inputs, d_o):
                    x.normal_()
                for x in outputs:
                    x.fill_(torch.nan)
            spoiled = spoil()
            graph.replay()
            torch.cuda.synchronize()
            del spoiled
            for found, expected in zip(outputs, step()):
                self.assertTrue(torch.equal(found, expected), f"{mask}, replay {replay}")

    def test_replays_have_the_bits_of_eager_calls(self):
        for dim in (64, 128, 256):
            with self.subTest(dim=dim):
                self.check("causal & window(90)", dim=dim)
        self.check("causal & (sink(3) | window(50))", soft_cap=4.0)
        self.check("causal", alibi_slopes=torch.rand(4, device="cuda"))

    def test_capture_without_a_call_before(self):
        self.check("causal & window(77)", warm_up=False)
        self.check("causal & window(78)", warm_up=False, dim=256)

    def test_operands_that_are_copied(self):
        base = [torch.randn(2, heads, 130, 128, device="cuda").bfloat16() for heads in (4, 2, 2)]
        q, k, v = (x[..., ::2].requires_grad_() for x in base)

        def step():
            o = perpend.attention(q, k, v, "causal")
            return o, *torch.autograd.grad(o, (q, k, v), torch.ones_like(o))

        graph, outputs = captured(step)
        for x in base:
            x.normal_()
        graph.replay()
        for found, expected in zip(outputs, step()):
            self.assertTrue(torch.equal(found, expected))

    def test_ragged(self):
        indptr = torch.tensor([0, 5, 5, 300], dtype=torch.int32)
        q = torch.randn(300, 4, 64, device="cuda").bfloat16()
        graph, (o,) = captured(lambda: (perpend.attention(q, q, q, "causal", q_indptr=indptr, kv_indptr=indptr),))
        q.normal_()
        graph.replay()
        self.assertTrue(torch.equal(o, perpend.attention(q, q, q, "causal", q_indptr=indptr, kv_indptr=indptr)))

    def test_a_graph_outlives_the_caches_of_plans(self):
        self.check("causal & window(333)", spoil=forget_plans)
        self.check("causal & window(334)", warm_up=False, spoil=forget_plans)

    def test_graphs_give_back_what_they_kept(self):
        torch.manual_seed(0)
        blocks = 64
        columns = torch.arange(blocks, dtype=torch.int32).repeat(blocks)
        words = torch.randint(-(2**63), 2**63 - 1, (blocks * blocks, 128, 2))  # no two bitmaps are equal
        tiles = perpend.TileMap(
            128, 128, blocks, torch.arange(blocks + 1) * blocks, columns, torch.arange(blocks * blocks).int(), words
        )
        q = torch.randn(1, 1, blocks * 128, 64, device="cuda").bfloat16()

        def free_memory():
            gc.collect()
            torch.cuda.synchronize()
            perpend.attention(q[:, :, :1], q, q, "all")  # frees what graphs gave back
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            return torch.cuda.mem_get_info()[0]

        graph, (o,) = captured(lambda: (perpend.attention(q, q, q, "tiles(map)", tiles={"map": tiles}),))
        forget_plans()
        before = free_memory()
        graph.replay()
        expected = perpend.attention(q, q, q, "tiles(map)", tiles={"map": tiles})
        self.assertTrue(torch.equal(o, expected))
        forget_plans()
        graph.reset()
        del graph, o, expected
        # Of the plan more than o and lse, whose memory the graph gives back too; CUDA takes its time.
        enough, deadline = 6 << 20, time.monotonic() + 10
        while (freed := free_memory() - before) < enough and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertGreaterEqual(freed, enough)

    def test_two_graphs_of_one_plan_at_once(self):
        q = torch.randn(8, 16, 2048, 64, device="cuda").bfloat16()
        other = torch.randn_like(q)
        graphs = [captured(lambda x=x: (perpend.attention(x, x, x, "causal"),)) for x in (q, other)]
        expected = [perpend.attention(x, x, x, "causal") for x in (q, other)]
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in graphs]
        for _ in range(20):
            for (graph, _), stream in zip(graphs, streams):
                with torch.cuda.stream(stream):
                    graph.replay()
        torch.cuda.synchronize()
        for (_, (o,)), right in zip(graphs, expected):
            self.assertTrue(torch.equal(o, right))

    def test_what_the_host_would_have_to_wait_for_is_refused(self):
        q = torch.randn(40, 4, 64, device="cuda").bfloat16()
        x = q.transpose(0, 1)[None]
        on_host = torch.tensor([0, 40], dtype=torch.int32)
        indptr, offset = on_host.cuda(), torch.tensor([3], device="cuda")
        labels = torch.arange(40, device="cuda")
        calls = {
            "q_indptr": lambda: perpend.attention(q, q, q, q_indptr=indptr, kv_indptr=indptr),
            "kv_indptr": lambda: torch.ops.perpend.attention(
                q, q, q, "all", q_indptr=on_host, kv_indptr=indptr, q_offset=[0]
            ),
            "the array of 'doc'": lambda: perpend.attention(x, x, x, "same(doc)", labels={"doc": labels}),
            "q_offset": lambda: perpend.attention(x, x, x, "causal", q_offset=offset),
        }
        for name, call in calls.items():
            with self.subTest(name), self.assertRaisesRegex(RuntimeError, f"{name} is on cuda:0.*give it on the cpu"):
                captured(call, warm_up=False)
        self.check("causal")  # nothing is left of the captures


if __name__ == "__main__":
    cuda_case.main()
