"""Random lists of blocks, and attention over them held against float64."""

import torch

import perpend
import reference


class Lists:
    """Lists in any order, with repeats and entries that are no block; some are empty."""

    def __init__(
        self, q_len, kv_len, block_size, q_block_size=None, heads=2, batch=2, counts=False, seed=0, device="cpu", most=None
    ):
        generator = torch.Generator(device).manual_seed(seed)
        self.q_len, self.kv_len, self.block_size = q_len, kv_len, block_size
        self.q_block_size = q_block_size or block_size
        blocks = -(-kv_len // block_size)
        shape = (batch, heads, -(-q_len // self.q_block_size), most or max(2 * blocks // 3, 1))

        def random(low, high, shape):
            return torch.randint(low, high, shape, generator=generator, device=device, dtype=torch.int32)

        self.indices = random(-2, blocks + 2, shape)
        self.indices[random(0, 5, shape[:3]) == 0] = -1
        self.counts = random(0, shape[-1] + 2, shape[:3]) if counts else None

    def options(self):
        return {"block_size": self.block_size, "q_block_size": self.q_block_size, "block_counts": self.counts}

    def visible(self, num_q_heads, causal=False, q_offset=0):
        """bool [batch, num_q_heads, q_len, kv_len]"""
        indices = self.indices.long()
        if self.counts is not None:
            beyond = torch.arange(indices.size(-1), device=indices.device) >= self.counts[..., None]
            indices = indices.masked_fill(beyond, -1)
        blocks = -(-self.kv_len // self.block_size)
        named = (indices[..., None] == torch.arange(blocks, device=indices.device)).any(-2)
        named = named.repeat_interleave(num_q_heads // named.size(1), 1)
        pairs = named.repeat_interleave(self.q_block_size, 2)[:, :, : self.q_len]
        pairs = pairs.repeat_interleave(self.block_size, 3)[..., : self.kv_len]
        if causal:
            q = torch.arange(self.q_len, device=indices.device)[:, None] + q_offset
            pairs = pairs & (torch.arange(self.kv_len, device=indices.device) <= q)
        return pairs


def operands(lists, heads=(4, 2), dim=16, dtype=torch.float32):
    """q, k and v for lists, with gradients, alike from call to call."""
    device = lists.indices.device
    generator = torch.Generator(device).manual_seed(1)

    def random(num_heads, length):
        shape = (lists.indices.size(0), num_heads, length, dim)
        values = torch.randn(shape, device=device, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    return random(heads[0], lists.q_len), random(heads[1], lists.kv_len), random(heads[1], lists.kv_len)


def errors(lists, q, k, v, deterministic=True, **options):
    """Relative errors of o, lse, dq, dk and dv."""
    torch.manual_seed(2)
    causal, q_offset = options.get("causal", False), options.get("q_offset", 0)
    pairs = lists.visible(q.size(1), causal, q_offset)
    d_o = torch.randn_like(q)
    d_lse = torch.randn(q.shape[:3], device=q.device) * pairs.any(-1)  # -inf has no gradient
    o, lse = perpend.block_attention(
        q, k, v, lists.indices, **lists.options(), **options, return_lse=True, deterministic=deterministic
    )
    found = torch.autograd.grad((o, lse), (q, k, v), (d_o, d_lse.to(lse.dtype)))
    options.pop("causal", None)
    expected_o, expected_lse = reference.attention(q, k, v, pairs, **options)
    some = pairs.any(-1)
    loss = (expected_o * d_o.double()).sum() + (expected_lse[some] * d_lse.double()[some]).sum()
    expected = (expected_o.detach(), expected_lse.detach(), *torch.autograd.grad(loss, (q, k, v)))
    names = ("o", "lse", "dq", "dk", "dv")
    outputs = zip(names, (o.detach(), lse.detach(), *found), expected)
    return {name: reference.relative_error(x, y) for name, x, y in outputs}
