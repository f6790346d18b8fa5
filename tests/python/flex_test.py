"""perpend.from_flex(): equal to FlexAttention's own eager result, pair by pair."""

import unittest

import torch
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import perpend
import reference

flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True  # plain eager code, without a graph for each shape

DOCUMENTS = torch.tensor([0] * 50 + [1] * 33 + [2] * 117)


def causal(b, h, q, k):
    return q >= k


def sliding_window(b, h, q, k):
    return (q >= k) & (q - k < 37)


def prefix_lm(b, h, q, k):
    return (k < 40) | (q >= k)


def documents(b, h, q, k):
    return (q >= k) & (DOCUMENTS[q] == DOCUMENTS[k])


def dilated(b, h, q, k):
    return ((q - k).abs() < 60) & ((q - k) % 3 == 0)


def neighbourhood(b, h, q, k):
    return ((q // 20 - k // 20).abs() <= 2) & ((q % 20 - k % 20).abs() <= 3)


def by_head(b, h, q, k):
    return (q >= k) & (q - k < 16 * (1 + h // 2))


def by_sequence(b, h, q, k):
    return (q >= k) & (k >= 30 * b)


def by_both(b, h, q, k):
    return (q - k).abs() < 10 + 20 * b + 5 * h


class FlexTest(unittest.TestCase):
    def check(self, mask_mod, batch=None, heads=None, q_len=200, kv_len=200, block_size=128):
        torch.manual_seed(0)
        q = torch.randn(2, 4, q_len, 16)
        k, v = torch.randn(2, 2, 4, kv_len, 16)
        block_mask = create_block_mask(mask_mod, batch, heads, q_len, kv_len, device="cpu", BLOCK_SIZE=block_size)
        expected = flex_attention(q, k, v, block_mask=block_mask)
        found = perpend.attention(q, k, v, perpend.from_flex(block_mask))
        self.assertLess(reference.relative_error(found, expected), 2e-6)

    def test_masks(self):
        for mask_mod in (causal, sliding_window, prefix_lm, documents, dilated, neighbourhood):
            with self.subTest(mask_mod.__name__):
                self.check(mask_mod)

    def test_heads_and_sequences(self):
        self.check(by_head, heads=4)
        self.check(by_sequence, batch=2)
        self.check(by_both, batch=2, heads=4)

    def test_block_sizes(self):
        for block_size in (16, 33, 256, (64, 32)):
            with self.subTest(block_size=block_size):
                self.check(documents, block_size=block_size)

    def test_lengths(self):
        self.check(causal, q_len=70, kv_len=130)
        self.check(sliding_window, q_len=130, kv_len=70)

    def test_blocks_without_a_function(self):
        counts, indices = torch.tensor([[[1, 2]]]), torch.tensor([[[[0, 1], [1, 0]]]])
        block_mask = BlockMask.from_kv_blocks(counts, indices, BLOCK_SIZE=64)
        expected = torch.tensor([[1, 0], [1, 1]]).bool().repeat_interleave(64, 0).repeat_interleave(64, 1)
        self.assertTrue(torch.equal(perpend.from_flex(block_mask).dense(128), expected))

    def test_refusals(self):
        def broken(b, h, q, k):
            raise TypeError("no")

        block_mask = create_block_mask(causal, None, None, 200, 200, device="cpu")
        block_mask.mask_mod = broken
        with self.assertRaisesRegex(ValueError, "mask_mod can not be asked: no"):
            perpend.from_flex(block_mask)
        block_mask.mask_mod = lambda b, h, q, k: q - k
        with self.assertRaisesRegex(ValueError, "booleans"):
            perpend.from_flex(block_mask)
        counts, indices = torch.tensor([[[2]]]), torch.tensor([[[[0, 0]]]])
        with self.assertRaisesRegex(ValueError, "twice"):
            perpend.from_flex(BlockMask.from_kv_blocks(counts, indices, BLOCK_SIZE=64))


if __name__ == "__main__":
    unittest.main()
