"""Gradients of perpend.attention(): against float64, numerically, and their refusals."""

import unittest

import torch

import perpend
import reference


def leaf(*shape, dtype):
    return torch.randn(shape, dtype=dtype).requires_grad_()


class GradientTest(unittest.TestCase):
    def check(self, mask, dtype=torch.float32, heads=(4, 2), q_len=70, kv_len=70, dim=32, **options):
        torch.manual_seed(0)
        q = leaf(2, heads[0], q_len, dim, dtype=dtype)
        k, v = (leaf(2, heads[1], kv_len, dim, dtype=dtype) for _ in range(2))
        visible = perpend.Mask(mask).dense(q_len, kv_len, q_offset=options.get("q_offset", 0))
        d_o, d_lse = torch.randn_like(q), torch.randn(2, heads[0], q_len)
        d_lse = torch.where(visible.any(-1), d_lse, 0.0)  # -inf has no gradient

        o, lse = perpend.attention(q, k, v, mask, return_lse=True, **options)
        found = torch.autograd.grad((o, lse), (q, k, v), (d_o, d_lse.to(lse.dtype)))
        o, lse = reference.attention(q, k, v, visible, **options)
        some = visible.any(-1)
        loss = (o * d_o).sum() + (lse[..., some] * d_lse[..., some]).sum()
        expected = torch.autograd.grad(loss, (q, k, v))
        for name, x, y in zip("qkv", found, expected):
            self.assertEqual((x.dtype, x.shape), (dtype, y.shape))
            self.assertLess(reference.relative_error(x, y), reference.TOLERANCE[dtype][1], f"d{name} of {mask}")

    def test_dtypes(self):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            with self.subTest(dtype=dtype):
                self.check("causal & (sink(3) | window(20))", dtype)

    def test_shapes(self):
        self.check("causal", heads=(8, 1), dim=64)
        self.check("causal & window(9)", q_len=5, kv_len=90, q_offset=80)
        self.check("window(7) & ~window(3)", q_len=130, kv_len=130)  # the first rows see nothing
        self.check("upto(block(8))", q_len=64, kv_len=64)

    def test_score_changes(self):
        self.check("causal", soft_cap=2.0)
        self.check("causal", alibi_slopes=torch.tensor([0.5, 0.25, 0.125, 0.0]))

    def test_gradcheck(self):
        torch.manual_seed(0)
        q = leaf(1, 2, 9, 8, dtype=torch.float64)
        k, v = (leaf(1, 1, 9, 8, dtype=torch.float64) for _ in range(2))
        for mask in ("causal", "window(3) & ~sink(2)", "same(block(4))"):
            for options in ({}, {"soft_cap": 1.5}):
                with self.subTest(mask=mask, **options):
                    call = lambda q, k, v: perpend.attention(q, k, v, mask, **options)  # noqa: E731, B023
                    # Rounding of scale to float32 cancels: both sides have it.
                    self.assertTrue(torch.autograd.gradcheck(call, (q, k, v)))

    def test_lse_alone(self):
        torch.manual_seed(0)
        q = leaf(1, 2, 9, 8, dtype=torch.float64)
        k = leaf(1, 2, 9, 8, dtype=torch.float64)
        call = lambda q, k: perpend.attention(q, k, k.detach(), "causal", return_lse=True)[1]  # noqa: E731
        self.assertTrue(torch.autograd.gradcheck(call, (q, k)))

    def test_broadcast_gradient(self):
        q = leaf(1, 2, 9, 8, dtype=torch.float32)
        perpend.attention(q, q, q, "causal").sum().backward()  # d_o has no strides of its own
        self.assertEqual(q.grad.shape, q.shape)

    def test_nothing_to_do(self):
        for batch, q_len, kv_len in [(0, 7, 7), (2, 0, 7), (2, 7, 0), (2, 0, 0)]:
            q, k = leaf(batch, 2, q_len, 8, dtype=torch.float32), leaf(batch, 2, kv_len, 8, dtype=torch.float32)
            for x in torch.autograd.grad(perpend.attention(q, k, k, "causal").sum(), (q, k)):
                self.assertTrue((x == 0).all())

    def test_ragged(self):
        torch.manual_seed(0)
        indptr = torch.tensor([0, 5, 5, 40])
        q, k, v = (leaf(40, 2, 16, dtype=torch.float32) for _ in range(3))
        o = perpend.attention(q, k, v, "causal", q_indptr=indptr, kv_indptr=indptr)
        found = torch.autograd.grad(o.square().sum(), (q, k, v))
        loss = 0.0
        for begin, end in ((0, 5), (5, 40)):
            part = [x[begin:end].transpose(0, 1)[None] for x in (q, k, v)]
            loss = loss + reference.attention(*part, perpend.causal.dense(end - begin))[0].square().sum()
        for x, y in zip(found, torch.autograd.grad(loss, (q, k, v))):
            self.assertLess(reference.relative_error(x, y), 2e-5)

    def test_label_arrays(self):
        q = leaf(2, 2, 12, 8, dtype=torch.float32)
        labels = torch.arange(24).view(2, 12) // 5
        visible = (labels[:, :, None] == labels[:, None])[:, None]
        (found,) = torch.autograd.grad(perpend.attention(q, q, q, "same(x)", labels={"x": labels}).square().sum(), q)
        (expected,) = torch.autograd.grad(reference.attention(q, q, q, visible)[0].square().sum(), q)
        self.assertLess(reference.relative_error(found, expected), 2e-5)

    def test_opcheck(self):
        q = leaf(1, 2, 9, 8, dtype=torch.float32)
        torch.library.opcheck(torch.ops.perpend.attention.default, (q, q, q, "causal"))
        torch.library.opcheck(
            torch.ops.perpend.attention.by_values,
            (q, q, q, "same(x)"),
            {"bindings": ["x"], "arrays": [torch.arange(9) // 2]},
        )

    def test_the_operators_gradients_are_those_of_the_function(self):
        q, k = leaf(1, 2, 9, 8, dtype=torch.float32), leaf(1, 1, 9, 8, dtype=torch.float32)
        v = torch.randn(1, 1, 9, 8)  # has none
        labels = [torch.arange(9) // 2]
        for options, values in [
            ({"soft_cap": 2.0}, {"soft_cap": 2.0}),
            ({"labels": {"x": labels[0]}}, {"bindings": ["x"], "arrays": labels}),
        ]:
            mask = "causal & same(x)" if values.get("arrays") else "causal"
            o, lse = torch.ops.perpend.attention(q, k, v, mask, **values)
            found = torch.autograd.grad(o.sum() + lse.square().sum(), (q, k))
            o, lse = perpend.attention(q, k, v, mask, return_lse=True, **options)
            expected = torch.autograd.grad(o.sum() + lse.square().sum(), (q, k))
            self.assertTrue(all(torch.equal(x, y) for x, y in zip(found, expected)))
            self.assertFalse(perpend.attention(q.detach(), k.detach(), v, mask, **options).requires_grad)
            with torch.no_grad():
                self.assertFalse(perpend.attention(q, k, v, mask, **options).requires_grad)

    def test_labels_that_change_before_the_backward_pass_are_told(self):
        q = leaf(1, 2, 9, 8, dtype=torch.float32)
        labels = torch.arange(9) // 2
        loss = perpend.attention(q, q, q, "same(x)", labels={"x": labels}).sum()
        labels.add_(1)
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
            loss.backward()

    def functions_of_operands(self):
        """Each way to call an operator, as functions of q, k and v."""
        indices = torch.zeros(1, 1, 1, 1, dtype=torch.int32)
        labels = {"labels": {"x": torch.arange(9) // 2}}
        op = torch.ops.perpend
        return {
            "attention": lambda *x: perpend.attention(*x, "causal"),
            "attention by values": lambda *x: perpend.attention(*x, "same(x)", **labels),
            "block_attention": lambda *x: perpend.block_attention(*x, indices, block_size=16),
            "the operator": lambda *x: op.attention(*x, "causal")[0],
            "the operator of blocks": lambda *x: op.block_attention(*x, indices, block_size=16, q_block_size=16)[0],
        }

    def test_forward_mode_is_refused(self):
        q = torch.randn(1, 2, 9, 8)
        for name, function in self.functions_of_operands().items():
            for operand in range(3):
                with self.subTest(name, operand=operand):

                    def of_one(x, function=function, operand=operand):
                        return function(*(x if i == operand else q for i in range(3)))

                    with self.assertRaisesRegex(NotImplementedError, "forward-mode"):
                        torch.func.jvp(of_one, (q,), (q,))
                    with torch.autograd.forward_ad.dual_level():
                        dual = torch.autograd.forward_ad.make_dual(q, q)
                        with self.assertRaisesRegex(NotImplementedError, "forward-mode"):
                            of_one(dual)
                        of_one(q)  # has no derivative

    def test_second_derivatives_are_refused(self):
        q = leaf(1, 2, 9, 8, dtype=torch.float32)
        for name, function in self.functions_of_operands().items():
            with self.subTest(name):
                (first,) = torch.autograd.grad(function(q, q, q).sum(), q, create_graph=True)
                with self.assertRaisesRegex(NotImplementedError, "second derivatives"):
                    first.sum().backward()

    def test_an_order_that_is_not_wanted_changes_nothing_on_the_cpu(self):
        q = leaf(1, 2, 9, 8, dtype=torch.float32)
        (expected,) = torch.autograd.grad(perpend.attention(q, q, q, "causal").square().sum(), q)
        for enabled in (False, True):
            torch.use_deterministic_algorithms(enabled)
            try:
                o = perpend.attention(q, q, q, "causal", deterministic=False)
            finally:
                torch.use_deterministic_algorithms(False)
            self.assertEqual("deterministic" in o.grad_fn.options, not enabled)
            self.assertTrue(torch.equal(torch.autograd.grad(o.square().sum(), q)[0], expected))


if __name__ == "__main__":
    unittest.main()
