"""perpend.attention() inside torch.compile: one graph, the same bits."""

import unittest

import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

import perpend


def compiled(function, **options):
    # The graph is ours to get right, the code that a backend makes of it is not.
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


class CompileTest(unittest.TestCase):
    def setUp(self):
        torch.compiler.reset()
        torch.manual_seed(0)
        self.q = torch.randn(2, 4, 40, 16)
        self.k, self.v = torch.randn(2, 2, 2, 40, 16)

    def check(self, function, *arguments):
        self.assertTrue(torch.equal(compiled(function)(*arguments), function(*arguments)))

    def test_text(self):
        self.check(lambda q, k, v: perpend.attention(q, k, v, "causal & window(7)") * 2, self.q, self.k, self.v)

    def test_mask(self):
        mask = perpend.causal & (perpend.sink(2) | perpend.window(7))
        self.check(lambda q, k, v: perpend.attention(q, k, v, mask), self.q, self.k, self.v)
        self.check(lambda q, k, v, mask: perpend.attention(q, k, v, mask), self.q, self.k, self.v, mask)

    def test_masks_by_sequence(self):
        self.check(lambda q, k, v: perpend.attention(q, k, v, ["causal", perpend.causal]), self.q, self.k, self.v)

    def test_label_arrays(self):
        def function(q, k, v, labels):
            return perpend.attention(q, k, v, "causal & same(doc)", labels={"doc": labels})

        self.check(function, self.q, self.k, self.v, torch.arange(40) // 6)

    def test_bound_mask(self):
        mask = perpend.Mask("causal & same(doc)").bind(doc=torch.arange(40) // 6)
        self.check(lambda q, k, v: perpend.attention(q, k, v, mask), self.q, self.k, self.v)

    def test_lse_and_scores(self):
        def function(q, k, v):
            o, lse = perpend.attention(q, k, v, "causal", return_lse=True, soft_cap=3.0, scale=0.2)
            return o * lse[..., None]

        self.check(function, self.q, self.k, self.v)

    def test_ragged(self):
        tokens = torch.randn(40, 4, 16)

        def function(x, indptr):
            return perpend.attention(x, x, x, "causal", q_indptr=indptr, kv_indptr=indptr)

        self.check(function, tokens, torch.tensor([0, 11, 40]))

    def test_gradients(self):
        weight = torch.randn(16, 16, requires_grad=True)

        def loss(q, k, v):
            return perpend.attention(q @ weight, k, v, "causal & window(7)").square().sum()

        (expected,) = torch.autograd.grad(loss(self.q, self.k, self.v), weight)
        (found,) = torch.autograd.grad(compiled(loss)(self.q, self.k, self.v), weight)
        self.assertTrue(torch.equal(found, expected))

    def test_calls_planned_from_values_are_kept_out_of_cuda_graphs(self):
        def called(function, *arguments):
            """The operators of perpend in the graphs of function() and of its gradient."""
            operators = []

            def compiler(graph, _inputs):
                targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
                operators.extend(op for op in targets if getattr(op, "namespace", None) == "perpend")
                return make_boxed_func(graph.forward)

            torch.compiler.reset()
            backend = aot_autograd(fw_compiler=compiler, bw_compiler=compiler)
            step = torch.compile(function, fullgraph=True, backend=backend)
            step(*arguments).sum().backward()
            return operators

        def ragged(x, indptr):
            return perpend.attention(x, x, x, "causal", q_indptr=indptr, kv_indptr=indptr)

        def labelled(x, labels):
            return perpend.attention(x, x, x, "same(doc)", labels={"doc": labels})

        def planned_from_shapes(x, n):
            return perpend.attention(x, x, x, "causal & same(doc)", labels={"doc": "block(5)"}, q_offset=n)

        tokens = torch.randn(40, 4, 16, requires_grad=True)
        x = torch.randn(1, 4, 40, 16, requires_grad=True)
        for function, arguments, expected in [
            (ragged, (tokens, torch.tensor([0, 11, 40])), True),
            (labelled, (x, torch.arange(40) // 6), True),
            (planned_from_shapes, (x, 3), False),
        ]:
            with self.subTest(function.__name__):
                tagged = [torch.Tag.cudagraph_unsafe in op.tags for op in called(function, *arguments)]
                self.assertEqual(tagged, [expected] * 2)

    def test_growing_lengths_compile_twice_at_most(self):
        traces = []

        def backend(graph, _):
            traces.append(graph)
            return graph

        step = torch.compile(
            lambda q, k, v, n: perpend.attention(q, k, v, "causal", q_offset=n), fullgraph=True, backend=backend
        )
        for n in range(4, 12):
            q, k, v = self.q[:, :, n : n + 1], self.k[:, :, : n + 1], self.v[:, :, : n + 1]
            expected = perpend.attention(q, k, v, "causal", q_offset=n)
            self.assertTrue(torch.equal(step(q, k, v, n), expected))
        self.assertLessEqual(len(traces), 2)

    def test_a_mistake_is_told(self):
        with self.assertRaisesRegex(Exception, "did you mean 'causal'"):
            compiled(lambda q: perpend.attention(q, q, q, "causl"))(self.q)


if __name__ == "__main__":
    unittest.main()
