"""Attention written down in float64 over all pairs, with gradients by PyTorch's own autograd."""

import torch


def attention(q, k, v, visible, *, scale=None, soft_cap=None, alibi_slopes=None, q_offset=0):
    """q [B, H, S, D], k and v [B, Hkv, T, D], visible bool [S, T] or [B, H, S, T]; o and lse in float64."""
    q, k, v = q.double(), k.double(), v.double()
    group = q.size(1) // k.size(1)
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(-1, -2) * (q.size(-1) ** -0.5 if scale is None else scale)
    if soft_cap is not None:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    if alibi_slopes is not None:
        q_positions = torch.arange(q.size(2), device=q.device) + q_offset
        distance = (q_positions[:, None] - torch.arange(k.size(2), device=q.device)).abs()
        scores = scores - alibi_slopes.double()[:, None, None] * distance
    scores = scores.masked_fill(~visible, -torch.inf)
    lse = torch.logsumexp(scores, -1)
    # A row without a visible key has o = 0 and no gradient.
    some = visible.expand(scores.shape).any(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~some, 0.0), -1) * some
    return weights @ v, lse


def relative_error(found, expected, floor=1e-30):
    """norm(found - expected) / max(norm(expected), floor); infinite when found has NaN or an infinity of its own."""
    found, expected = found.double(), expected.double()
    same_infinity = (found == expected) & expected.isinf()
    found, expected = found.masked_fill(same_infinity, 0.0), expected.masked_fill(same_infinity, 0.0)
    difference = torch.linalg.vector_norm(found - expected)
    if not torch.isfinite(difference):
        return float("inf")
    return float(difference / torch.linalg.vector_norm(expected).clamp(min=floor))


# Of forward and backward.
TOLERANCE = {
    torch.float64: (1e-12, 1e-11),
    torch.float32: (2e-6, 2e-5),
    torch.float16: (2e-3, 4e-3),
    torch.bfloat16: (1e-2, 2e-2),
}
