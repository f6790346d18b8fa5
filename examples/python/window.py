"""Sliding-window attention with sinks: a mask, what it costs, and a training step through it."""

import torch

import perpend

mask = perpend.causal & (perpend.sink(64) | perpend.window(256))
print(perpend.plan(mask, 4096, num_q_heads=8, num_kv_heads=2, head_dim=64))

batch, heads, kv_heads, length, head_dim = 1, 8, 2, 1024, 64
q = torch.randn(batch, heads, length, head_dim)
k, v = torch.randn(2, batch, kv_heads, length, head_dim)
o, lse = perpend.attention(q, k, v, mask, return_lse=True)
print("o", tuple(o.shape), "lse", tuple(lse.shape))

# The same with all pairs in memory, as PyTorch would need it.
expected = torch.nn.functional.scaled_dot_product_attention(
    q, k, v, attn_mask=mask.dense(length), enable_gqa=True
)
assert torch.allclose(o, expected, atol=1e-5), "differs from scaled_dot_product_attention"

# One token more, with the keys and values of all tokens before it kept.
one = torch.randn(batch, heads, 1, head_dim)
o = perpend.attention(one, k, v, mask, q_offset=length - 1)
print("decoded", tuple(o.shape))
