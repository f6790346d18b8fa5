"""What the tests of CUDA tensors share. They skip where there is no GPU or the CUDA kernels are not built."""

import sys
import unittest

import torch

import perpend
import reference

# Of o, of gradients and of lse, as norm(error) / norm(expected).
TOLERANCE = {torch.bfloat16: (5e-3, 1e-2, 2e-5), torch.float16: (1e-3, 2e-3, 2e-5)}


def missing() -> str:
    """Why nothing can be tested here; empty where all can."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    q = torch.zeros(1, 1, 1, 64, device="cuda", dtype=torch.bfloat16)
    try:
        perpend.attention(q, q, q)
    except RuntimeError as error:
        if "of this build" in str(error):
            return "the CUDA kernels are not built"
        raise
    return ""


def operands(shape, heads=(4, 2), dim=64, dtype=torch.bfloat16, device="cuda", batch=2):
    """q, k and v of `shape` (q_len, kv_len), alike from call to call."""
    generator = torch.Generator(device).manual_seed(0)

    def random(num_heads, length):
        values = torch.randn(batch, num_heads, length, dim, device=device, generator=generator)
        return values.to(dtype).requires_grad_()

    return random(heads[0], shape[0]), random(heads[1], shape[1]), random(heads[1], shape[1])


def visible(mask, shape, heads, q_offset=0):
    """The pairs of a mask for each query head, bool [heads, q_len, kv_len]."""
    group = heads[0] // heads[1]
    pairs = [
        perpend.Mask(str(mask)).dense(*shape, q_offset=q_offset, q_head=head, kv_head=head // group)
        for head in range(heads[0])
    ]
    return torch.stack(pairs).cuda()


def error(found, expected):
    """norm(found - expected) / norm(expected), with 1e-3 a value in place of expected values that are all but zero."""
    return reference.relative_error(found, expected, floor=max(1e-30, 1e-3 * expected.numel() ** 0.5))


class CudaCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if reason := missing():
            raise unittest.SkipTest(reason)

    def check(self, q, k, v, mask, pairs, **options):
        """Values and gradients against float64, and the bits of a second run."""
        torch.manual_seed(1)
        d_o = torch.randn_like(q)
        d_lse = torch.randn(q.shape[:3], device=q.device) * pairs.any(-1)  # -inf has no gradient

        def run():
            poison = torch.full_like(q, torch.nan)  # noqa: F841, what is not written shows
            del poison
            o, lse = perpend.attention(q, k, v, mask, return_lse=True, **options)
            return o, lse, torch.autograd.grad((o, lse), (q, k, v), (d_o, d_lse))

        o, lse, gradients = run()
        others = {name: value for name, value in options.items() if name not in ("labels", "tiles")}
        expected_o, expected_lse = reference.attention(q, k, v, pairs, **others)
        some = pairs.expand(lse.shape + pairs.shape[-1:]).any(-1)
        loss = (expected_o * d_o.double()).sum() + (expected_lse[some] * d_lse.double()[some]).sum()
        expected_gradients = torch.autograd.grad(loss, (q, k, v))

        of_o, of_gradients, of_lse = TOLERANCE[q.dtype]
        self.assertEqual((o.dtype, o.shape, o.device), (q.dtype, q.shape, q.device))
        self.assertLess(error(o, expected_o), of_o)
        self.assertLess(error(lse, expected_lse), of_lse)
        for name, found, expected, of in zip("qkv", gradients, expected_gradients, (q, k, v)):
            self.assertEqual((found.dtype, found.shape), (of.dtype, of.shape))
            self.assertLess(error(found, expected), of_gradients, f"d{name}")
        again_o, again_lse, again = run()
        self.assertTrue(torch.equal(o, again_o) and torch.equal(lse, again_lse))
        self.assertTrue(all(torch.equal(x, y) for x, y in zip(gradients, again)))


def main() -> None:
    """Runs the tests and says what was not run; exit status 77 when nothing was."""
    result = unittest.main(exit=False).result
    for test, reason in result.skipped:
        print(f"not run: {test}: {reason}")
    num_run = result.testsRun - sum(1 for test, _ in result.skipped if isinstance(test, unittest.TestCase))
    print(f"{num_run} tests were run on {torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}")
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(0 if num_run else 77)
