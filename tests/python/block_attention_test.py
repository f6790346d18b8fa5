"""perpend.block_attention(): against float64, as an operator, and its refusals."""

import unittest

import torch

import block_lists
import perpend
import reference
from block_lists import Lists, operands


class BlockAttentionTest(unittest.TestCase):
    def check(self, lists, heads=(4, 2), dtype=torch.float32, dim=16, tolerance=None, **options):
        q, k, v = operands(lists, heads, dim, dtype)
        of_o, of_gradients = tolerance or reference.TOLERANCE[dtype]
        errors = block_lists.errors(lists, q, k, v, **options)
        self.assertLess(errors["o"], of_o)
        self.assertLess(errors["lse"], of_o)
        for name in ("dq", "dk", "dv"):
            self.assertLess(errors[name], of_gradients, name)

    def test_dtypes(self):
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            with self.subTest(dtype=dtype):
                self.check(Lists(q_len=70, kv_len=90, block_size=16), dtype=dtype)

    def test_lists(self):
        for heads_of_lists in (1, 2, 4):
            for causal in (False, True):
                with self.subTest(heads_of_lists=heads_of_lists, causal=causal):
                    self.check(Lists(70, 90, block_size=16, q_block_size=8, heads=heads_of_lists), causal=causal)
        self.check(Lists(9, 90, block_size=7, q_block_size=1), causal=True, q_offset=60)
        self.check(Lists(70, 90, block_size=128))
        self.check(Lists(70, 90, block_size=16, counts=True))

    def test_score_changes(self):
        lists = Lists(70, 70, block_size=16)
        self.check(lists, soft_cap=2.0)
        self.check(lists, scale=0.3)
        self.check(lists, alibi_slopes=torch.rand(4))

    def test_integers_of_any_kind(self):
        lists = Lists(70, 70, block_size=16)
        q, k, v = operands(lists)
        o = perpend.block_attention(q, k, v, lists.indices, block_size=16)
        for dtype in (torch.int64, torch.int16):
            self.assertTrue(torch.equal(o, perpend.block_attention(q, k, v, lists.indices.to(dtype), block_size=16)))

    def test_lists_of_any_strides(self):
        lists = Lists(70, 70, block_size=16)
        q, k, v = operands(lists)
        o = perpend.block_attention(q, k, v, lists.indices, block_size=16)
        strided = lists.indices.transpose(-1, -2).contiguous().transpose(-1, -2)
        self.assertTrue(torch.equal(o, perpend.block_attention(q, k, v, strided, block_size=16)))
        shared = lists.indices[:1, :1].expand(2, 2, -1, -1)
        o = perpend.block_attention(q, k, v, shared, block_size=16)
        self.assertTrue(torch.equal(o, perpend.block_attention(q, k, v, shared.contiguous(), block_size=16)))

    def test_lists_that_change_before_the_backward_pass(self):
        lists = Lists(70, 70, block_size=16)
        q, k, v = operands(lists)
        o = perpend.block_attention(q, k, v, lists.indices, block_size=16)
        lists.indices.fill_(-1)
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
            o.sum().backward()

    def test_nothing_to_do(self):
        for batch, q_len, kv_len in [(0, 7, 7), (2, 0, 7), (2, 7, 0)]:
            with self.subTest(batch=batch, q_len=q_len, kv_len=kv_len):
                lists = Lists(q_len, kv_len, block_size=4, batch=batch)
                q, k, v = operands(lists)
                o, lse = perpend.block_attention(q, k, v, lists.indices, block_size=4, return_lse=True)
                gradients = torch.autograd.grad(o, (q, k, v), torch.ones_like(o))
                self.assertTrue((o == 0).all() and (lse == -torch.inf).all())
                self.assertTrue(all((x == 0).all() for x in gradients))

    def test_opcheck(self):
        lists = Lists(40, 40, block_size=16)
        q, k, v = operands(lists)
        sizes = {"block_size": 16, "q_block_size": 16}
        op = torch.ops.perpend.block_attention.default
        torch.library.opcheck(op, (q, k, v, lists.indices), sizes)
        counts = torch.full(lists.indices.shape[:3], 2, dtype=torch.int32)
        slopes = torch.rand(4)
        torch.library.opcheck(op, (q, k, v, lists.indices, counts, slopes), {**sizes, "causal": True, "soft_cap": 2.0})
        torch.library.opcheck(op, (q[..., ::2], k[..., ::2], v[..., ::2], lists.indices), {**sizes, "q_offset": 3})

    def test_compile(self):
        lists = Lists(40, 40, block_size=16)
        weight = torch.randn(16, 16, requires_grad=True)
        q, k, v = (x.detach() for x in operands(lists))

        def loss(q, k, v, indices):
            return perpend.block_attention(q @ weight, k, v, indices, block_size=16, causal=True).square().sum()

        torch.compiler.reset()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        for seed in range(3):
            indices = Lists(40, 40, block_size=16, seed=seed).indices
            (expected,) = torch.autograd.grad(loss(q, k, v, indices), weight)
            (found,) = torch.autograd.grad(compiled(q, k, v, indices), weight)
            self.assertTrue(torch.equal(found, expected))

    def test_refusals(self):
        lists = Lists(70, 70, block_size=16)
        q, k, v = operands(lists)
        indices = lists.indices
        cases = [
            ("block_indices must be integers", indices.float(), {}),
            ("must be i32 \\[batch, heads, q_blocks, max_blocks\\]", indices[0], {}),
            ("batch of block_indices and of q differ", indices[:1], {}),
            ("heads of block_indices must be 1, those of k \\(2\\) or those of q \\(4\\), found 3",
             indices[:, :1].expand(-1, 3, -1, -1), {}),
            ("70 queries in blocks of 8, differ \\(5 vs 9\\)", indices, {"q_block_size": 8}),
            ("block_counts must be i32", indices, {"block_counts": torch.ones(2, 2, 3)}),
            ("block_size and q_block_size must be positive \\(0 and 16\\)", indices, {"block_size": 0, "q_block_size": 16}),
            ("scale must not be 0", indices, {"scale": 0.0}),
            ("alibi_slopes can not have a gradient", indices, {"alibi_slopes": torch.ones(4, requires_grad=True)}),
        ]
        for text, given, options in cases:
            with self.subTest(text), self.assertRaisesRegex((ValueError, RuntimeError), text):
                perpend.block_attention(q, k, v, given, **{"block_size": 16, **options})


if __name__ == "__main__":
    unittest.main()
