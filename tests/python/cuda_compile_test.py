"""perpend.attention() on CUDA tensors inside torch.compile and under torch.library.opcheck."""

import unittest

import torch

import cuda_case
import perpend
from cuda_case import CudaCase, operands


class CudaCompileTest(CudaCase):
    def setUp(self):
        torch.compiler.reset()

    def check(self, function, *arguments, others=(), **options):
        """The compiled function has the bits of the eager one, also where CUDA graphs are replayed.

        `others`: arguments with which it is called when its graphs are there.
        """
        compiled = torch.compile(function, fullgraph=True, **options)
        for given in (*[arguments] * 4, *others, arguments):
            self.assertTrue(torch.equal(compiled(*given), function(*given)))

    def test_backends(self):
        mask = perpend.causal & (perpend.sink(2) | perpend.window(70))
        q, k, v = (x.detach() for x in operands((300, 300)))
        for options in ({"backend": "aot_eager"}, {}, {"mode": "reduce-overhead"}):
            with self.subTest(**options):
                torch.compiler.reset()
                self.check(lambda q, k, v: perpend.attention(q, k, v, mask) * 2, q, k, v, **options)

    def test_score_changes_and_lse(self):
        def function(q, k, v, slopes):
            o, lse = perpend.attention(q, k, v, "causal", return_lse=True, soft_cap=3.0, alibi_slopes=slopes)
            return o * lse[..., None].to(o.dtype)

        self.check(function, *(x.detach() for x in operands((130, 130))), torch.rand(4, device="cuda"), backend="aot_eager")

    def test_ragged_on_either_side(self):
        def function(x, indptr):
            return perpend.attention(x * 2, x, x, "causal", q_indptr=indptr, kv_indptr=indptr) * 2

        x = torch.randn(140, 4, 64, device="cuda").bfloat16()
        indptr, other = torch.tensor([0, 11, 140]), torch.tensor([0, 77, 140])
        for device in ("cpu", "cuda"):
            for options in ({"backend": "aot_eager"}, {"mode": "reduce-overhead"}):
                with self.subTest(device=device, **options):
                    torch.compiler.reset()
                    self.check(function, x, indptr.to(device), others=[(x, other.to(device))], **options)

    def test_label_arrays_on_either_side(self):
        def function(q, k, v, labels):
            return perpend.attention(q * 2, k, v, "causal & same(doc)", labels={"doc": labels}) * 2

        operands_given = [x.detach() for x in operands((130, 130))]
        labels, other = torch.arange(130) // 40, torch.arange(130) // 7
        for device in ("cpu", "cuda"):
            for options in ({"backend": "aot_eager"}, {"mode": "reduce-overhead"}):
                with self.subTest(device=device, **options):
                    torch.compiler.reset()
                    others = [(*operands_given, other.to(device))]
                    self.check(function, *operands_given, labels.to(device), others=others, **options)

    def test_offsets_that_change(self):
        def function(q, k, v, n):
            return perpend.attention(q * 2, k, v, "causal & window(50)", q_offset=n) * 2

        operands_given = [x.detach() for x in operands((3, 130))]
        for options in ({"backend": "aot_eager"}, {"mode": "reduce-overhead"}):
            with self.subTest(**options):
                torch.compiler.reset()
                others = [(*operands_given, n) for n in (90, 91, 90, 120, 91)]
                self.check(function, *operands_given, 70, others=others, dynamic=True, **options)

    def test_gradients_planned_from_values(self):
        q, k, v = operands((130, 130))

        def step(labels, function):
            o = function(q, k, v, labels)
            return torch.autograd.grad(o, (q, k, v), torch.ones_like(o))

        def function(q, k, v, labels):
            return perpend.attention(q, k, v, "causal & same(doc)", labels={"doc": labels})

        for options in ({"backend": "aot_eager"}, {"mode": "reduce-overhead"}):
            with self.subTest(**options):
                torch.compiler.reset()
                compiled = torch.compile(function, fullgraph=True, **options)
                for size in (40, 40, 40, 40, 7, 40):
                    labels = torch.arange(130) // size
                    found, expected = step(labels, compiled), step(labels, function)
                    self.assertTrue(all(torch.equal(x, y) for x, y in zip(found, expected)))

    def test_gradients(self):
        weight = torch.randn(64, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        q, k, v = (x.detach() for x in operands((300, 300)))

        def loss(q, k, v):
            return perpend.attention(q @ weight, k, v, "causal & window(70)").float().square().sum()

        (expected,) = torch.autograd.grad(loss(q, k, v), weight)
        for options in ({"backend": "aot_eager"}, {"mode": "reduce-overhead"}):
            with self.subTest(**options):
                torch.compiler.reset()
                compiled = torch.compile(loss, fullgraph=True, **options)
                for _ in range(4):
                    (found,) = torch.autograd.grad(compiled(q, k, v), weight)
                    self.assertLess(cuda_case.error(found, expected), 1e-2)  # products are the backend's own

    def test_growing_lengths_compile_twice_at_most(self):
        traces = []

        def backend(graph, _):
            traces.append(graph)
            return graph

        q, k, v = (x.detach() for x in operands((40, 40)))
        step = torch.compile(
            lambda q, k, v, n: perpend.attention(q, k, v, "causal", q_offset=n), fullgraph=True, backend=backend
        )
        for n in range(4, 12):
            arguments = q[:, :, n : n + 1], k[:, :, : n + 1], v[:, :, : n + 1]
            self.assertTrue(torch.equal(step(*arguments, n), perpend.attention(*arguments, "causal", q_offset=n)))
        self.assertLessEqual(len(traces), 2)

    def test_dynamic_shapes(self):
        compiled = torch.compile(
            lambda q, k, v: perpend.attention(q, k, v, "causal & window(50)"), fullgraph=True, dynamic=True
        )
        for length in (100, 129, 257):
            q, k, v = (x.detach() for x in operands((length, length)))
            self.assertTrue(torch.equal(compiled(q, k, v), perpend.attention(q, k, v, "causal & window(50)")))

    def test_opcheck(self):
        q, k, v = operands((70, 70))
        tokens = torch.randn(70, 4, 64, device="cuda").bfloat16()
        indptr = torch.tensor([0, 20, 70], dtype=torch.int32)
        op = torch.ops.perpend.attention
        samples = [
            (op.default, (q, k, v, "causal"), {}),
            (op.default, (q.transpose(1, 2).contiguous().transpose(1, 2), k, v, "window(3)"), {"scale": 0.5}),
            (op.default, (q[..., ::2], k[..., ::2], v[..., ::2], "causal"), {"soft_cap": 1.0}),
            (op.default, (q, k, v, "causal", torch.rand(4, device="cuda")), {"q_offset": [3]}),
            (op.by_values, (q, k, v, "same(doc)", None, None, None, [torch.arange(70) // 9]), {"bindings": ["doc"]}),
            (op.by_values, (tokens, tokens, tokens, "causal", None, indptr, indptr), {}),
            (op.by_values, (tokens, tokens, tokens, "causal", None, indptr.cuda(), indptr.cuda()), {}),
        ]
        for overload, arguments, keywords in samples:
            with self.subTest(overload=overload, keywords=keywords):
                torch.library.opcheck(overload, arguments, keywords)


if __name__ == "__main__":
    cuda_case.main()
