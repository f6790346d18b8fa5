"""Masks that FlexAttention's users write, as mask_mod beside Perpend's text: equal to PyTorch's eager result.

Outputs and logsumexp against flex_attention run eagerly on the CPU; FlexAttention has no backward pass there, so
gradients against autograd through the same mask_mod spelt out.
"""

import unittest

import torch
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

import perpend
import reference

TOKENS = 240
WIDTH = 16  # of a picture of 15 x 16 tokens
HEIGHT = TOKENS // WIDTH
DOCUMENTS = torch.tensor([0] * 50 + [1] * 33 + [2] * 97 + [3] * 60)
SLOPES = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])


def table(label, size, visible):
    """The text of table(label, ...): row and column numbers of `size` labels that see each other."""
    return f"table({label}, {', '.join(''.join(str(int(visible(q, k))) for k in range(size)) for q in range(size))})"


def near(radius):
    return lambda q, k: abs(q - k) <= radius


def clamped(size, radius):
    """NATTEN's window keeps its size at the border: its centre is moved inside."""
    return lambda q, k: abs(min(max(q, radius), size - 1 - radius) - k) <= radius


def column(x):
    return x % WIDTH


def row(x):
    return x // WIDTH


def natten(b, h, q, k):
    centre = column(q).clamp(2, WIDTH - 3), row(q).clamp(3, HEIGHT - 4)
    return ((centre[0] - column(k)).abs() <= 2) & ((centre[1] - row(k)).abs() <= 3)


def tile(x):
    """Index of the 5 x 4 tile (5 rows, 4 columns) of a token, three by four of them."""
    return row(x) // 5 * 4 + column(x) // 4


def near_tiles(b, h, q, k):
    return ((tile(q) // 4 - tile(k) // 4).abs() <= 1) & ((tile(q) % 4 - tile(k) % 4).abs() <= 1)


# name: (mask_mod, text, labels)
MASKS = {
    "causal": (lambda b, h, q, k: q >= k, "causal", {}),
    "sliding window": (lambda b, h, q, k: (q >= k) & (q - k <= 37), "causal & window(38)", {}),
    "two-sided window": (lambda b, h, q, k: (q - k).abs() <= 20, "window(21, 21)", {}),
    "prefix-LM": (lambda b, h, q, k: (k < 40) | (q >= k), "sink(40) | causal", {}),
    "sink and window": (lambda b, h, q, k: (q >= k) & ((k < 4) | (q - k < 32)), "causal & (sink(4) | window(32))", {}),
    "chunks": (lambda b, h, q, k: (q >= k) & (q // 64 == k // 64), "causal & same(block(64))", {}),
    "block causal": (lambda b, h, q, k: q // 24 >= k // 24, "upto(block(24))", {}),
    "documents": (
        lambda b, h, q, k: (q >= k) & (DOCUMENTS[q] == DOCUMENTS[k]),
        "causal & same(doc)",
        {"doc": DOCUMENTS},
    ),
    "documents by length": (
        lambda b, h, q, k: (q >= k) & (DOCUMENTS[q] == DOCUMENTS[k]),
        "causal & same(doc)",
        {"doc": "segments(50, 33, 97, 60)"},
    ),
    "dilated": (
        lambda b, h, q, k: ((q - k).abs() <= 60) & ((q - k) % 3 == 0),
        "window(61, 61) & same(within(3, block(1)))",
        {},
    ),
    "neighbourhood": (
        lambda b, h, q, k: ((row(q) - row(k)).abs() <= 2) & ((column(q) - column(k)).abs() <= 3),
        table(f"block({WIDTH})", HEIGHT, near(2)) + " & " + table(f"within({WIDTH}, block(1))", WIDTH, near(3)),
        {},
    ),
    "NATTEN": (
        natten,
        table(f"block({WIDTH})", HEIGHT, clamped(HEIGHT, 3))
        + " & "
        + table(f"within({WIDTH}, block(1))", WIDTH, clamped(WIDTH, 2)),
        {},
    ),
    "near tiles": (
        near_tiles,
        table(
            f"grid({HEIGHT}, {WIDTH}).window(5, 4)", 12, lambda q, k: abs(q // 4 - k // 4) <= 1 and abs(q % 4 - k % 4) <= 1
        ),
        {},
    ),
    "windows by head": (
        lambda b, h, q, k: (q >= k) & (q - k < torch.where(h < 2, 16, 64)),
        "causal & heads(0-1: window(16); rest: window(64))",
        {},
    ),
    "nothing for some": (lambda b, h, q, k: (q >= k) & (k >= 30), "causal & ~sink(30)", {}),
}


def capped(score, b, h, q, k):
    return 5.0 * torch.tanh(score / 5.0)


def with_alibi(score, b, h, q, k):
    return score + SLOPES[h] * (k - q)


# name: (score_mod, arguments of perpend.attention)
SCORES = {
    "plain": (None, {}),
    "soft cap": (capped, {"soft_cap": 5.0}),
    "ALiBi": (with_alibi, {"alibi_slopes": SLOPES}),
}


def operands(dtype, kv_heads=2):
    torch.manual_seed(7)
    make = lambda heads: torch.randn(2, heads, TOKENS, 32, dtype=dtype)
    return make(4), make(kv_heads), make(kv_heads)


def visible(mask_mod):
    h, q, k = torch.arange(4)[:, None, None], torch.arange(TOKENS)[None, :, None], torch.arange(TOKENS)
    return mask_mod(0, h, q, k).expand(4, TOKENS, TOKENS)


class FlexMasksTest(unittest.TestCase):
    def check(self, name, scores, dtype):
        mask_mod, text, labels = MASKS[name]
        score_mod, arguments = SCORES[scores]
        q, k, v = operands(dtype)
        heads = 4 if name == "windows by head" else None
        block_mask = create_block_mask(mask_mod, None, heads, TOKENS, TOKENS, device="cpu")
        expected, more = flex_attention(
            q, k, v, score_mod=score_mod, block_mask=block_mask, enable_gqa=True, return_aux=AuxRequest(lse=True)
        )
        found, found_lse = perpend.attention(q, k, v, text, labels=labels, return_lse=True, **arguments)
        forward, _ = reference.TOLERANCE[dtype]
        # Both sides round: PyTorch's eager result is no more exact than ours.
        self.assertLess(reference.relative_error(found, expected), 4 * forward, (name, scores, dtype))
        self.assertLess(reference.relative_error(found_lse, more.lse), 1e-5, (name, scores, dtype))

    def test_outputs(self):
        for name in MASKS:
            for dtype in (torch.float32, torch.bfloat16):
                with self.subTest(name, dtype=dtype):
                    self.check(name, "plain", dtype)

    def test_changed_scores(self):
        for name in ("causal", "sliding window", "documents"):
            for scores in ("soft cap", "ALiBi"):
                with self.subTest(name, scores=scores):
                    self.check(name, scores, torch.float32)

    def test_gradients(self):
        for name, (mask_mod, text, labels) in MASKS.items():
            with self.subTest(name):
                ours = [x.requires_grad_() for x in operands(torch.float32)]
                theirs = [x.detach().double().requires_grad_() for x in ours]
                perpend.attention(*ours, text, labels=labels).square().sum().backward()
                reference.attention(*theirs, visible(mask_mod))[0].square().sum().backward()
                for found, expected in zip(ours, theirs):
                    self.assertLess(reference.relative_error(found.grad, expected.grad), 2e-5, name)


if __name__ == "__main__":
    unittest.main()
