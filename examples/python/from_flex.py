"""A mask that was written for FlexAttention, taken over as it is."""

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import perpend


def checkered_window(b, h, q, k):
    return (q >= k) & (q - k < 128) & ((q // 8 + k // 8 + h) % 2 == 0)


heads, length, head_dim = 4, 500, 64
block_mask = create_block_mask(checkered_window, None, heads, length, length, device="cpu")
mask = perpend.from_flex(block_mask)

q, k, v = torch.randn(3, 1, heads, length, head_dim)
o = perpend.attention(q, k, v, mask)
assert torch.allclose(o, flex_attention(q, k, v, block_mask=block_mask), atol=1e-5)
print(perpend.plan(mask, length, num_q_heads=heads, head_dim=head_dim))
