"""The training mask of block diffusion (BD3-LM, arXiv:2503.09573): a noisy copy of the text, then the clean one.

A noisy block sees itself and the clean blocks before it; a clean block sees the clean blocks up to itself.
"""

import torch

import perpend

length, block_size = 512, 32

copy = perpend.copy(length)
block = perpend.within(length, perpend.block(block_size))
noisy, clean = 0, 1
mask = (
    perpend.q_in(copy, noisy) & perpend.k_in(copy, noisy) & perpend.same(block)
    | perpend.q_in(copy, noisy) & perpend.k_in(copy, clean) & perpend.before(block)
    | perpend.q_in(copy, clean) & perpend.k_in(copy, clean) & perpend.upto(block)
)
assert mask == perpend.Mask(f"block_diffusion({length}, {block_size})"), "the same by its name"
print(mask.draw(2 * length))
print(perpend.plan(mask, 2 * length, num_q_heads=4, num_kv_heads=2, head_dim=64))

# The definition, pair by pair.
position = torch.arange(2 * length)
is_clean, number = position >= length, position % length // block_size
q_clean, k_clean = is_clean[:, None], is_clean[None]
q_number, k_number = number[:, None], number[None]
expected = (
    (~q_clean & ~k_clean & (q_number == k_number))
    | (~q_clean & k_clean & (k_number < q_number))
    | (q_clean & k_clean & (k_number <= q_number))
)
assert torch.equal(mask.dense(2 * length), expected)

q = torch.randn(2, 4, 2 * length, 64)
k, v = torch.randn(2, 2, 2, 2 * length, 64)
print("o", tuple(perpend.attention(q, k, v, mask).shape))
