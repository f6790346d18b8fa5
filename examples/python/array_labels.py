"""An odd mask: conversations in which everybody hears the system prompt and their own speaker's past.

Labels are integer tensors with a value for each position; the mask compares them. Here two of them, different for
each sequence of the batch.
"""

import torch

import perpend

batch, heads, length, head_dim = 2, 4, 300, 64
generator = torch.Generator().manual_seed(0)
speaker = torch.randint(1, 4, (batch, length), generator=generator)
speaker[:, :40] = 0  # the system prompt
turn = torch.randint(0, 2, (batch, length), generator=generator).cumsum(1)

# Before the current turn only, but for what the speaker says now; the prompt (speaker 0) is heard by all.
mask = perpend.Mask("causal & (k_in(speaker, 0) | same(speaker) & (before(turn) | same(turn)))")
mask = mask.bind(speaker=speaker, turn=turn)

q, k, v = torch.randn(3, batch, heads, length, head_dim)
o = perpend.attention(q, k, v, mask)

# Against all pairs written down.
position = torch.arange(length)
same_speaker = speaker[:, :, None] == speaker[:, None]
not_later = turn[:, None] <= turn[:, :, None]
visible = (position[:, None] >= position) & ((speaker[:, None] == 0) | same_speaker & not_later)
expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None])
assert torch.allclose(o, expected, atol=1e-5)
print(f"{visible.float().mean():.1%} of all pairs are visible; o {tuple(o.shape)} is as with a dense mask")
