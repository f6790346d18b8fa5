"""Sampled rows of attention and of its gradients on a GPU against float64 formulas of the mask's definition."""

import torch

from gpu_workloads import visible


def relative(found, expected) -> float:
    error = (found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30)
    return float(error) if torch.isfinite(error) else float("inf")


def samples(like):
    """Some rows, and some heads of some batch entries, of [batch, heads, tokens, dim]."""
    batch, heads, tokens, _ = like.shape
    rows = torch.randint(tokens, (24,), generator=torch.Generator().manual_seed(7))
    rows = torch.cat([rows, torch.tensor([0, 1, tokens - 1])]).to(like.device)
    return rows, {(0, 0), (batch - 1, heads - 1), (0, heads // 2)}


def check_rows(mask, q, k, v, o, lse) -> float:
    """The worst relative error of some rows of some heads; raises AssertionError where lse is off."""
    heads, dim = q.shape[1], q.shape[3]
    keys = torch.arange(q.shape[2], device=q.device)
    rows, places = samples(q)
    worst = 0.0
    for b, head in places:
        kv = head * k.shape[1] // heads
        scores = q[b, head, rows].double() @ k[b, kv].double().T / dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~visible(mask, head, rows, keys), float("-inf"))
        expected = torch.nan_to_num(torch.softmax(scores, dim=-1)) @ v[b, kv].double()
        worst = max(worst, relative(o[b, head, rows], expected))
        off = (lse[b, head, rows].double() - torch.logsumexp(scores, dim=-1)).abs().max()
        if not off < 1e-3:
            raise AssertionError(f"lse is off by {float(off)}")
    return worst


def check_gradients(mask, q, k, v, o, lse, d_o, gradients) -> float:
    """The same of some rows of dq, dk and dv, from o and lse, which check_rows() has seen."""
    dq, dk, dv = gradients
    heads, tokens, dim = q.shape[1:]
    group = heads // k.shape[1]
    every = torch.arange(tokens, device=q.device)
    rows, places = samples(q)

    def weights(b, head, queries, keys):
        """p and the gradient of the scaled scores, [queries, keys]."""
        of = lambda x: x[b, head, queries].double()
        kv = lambda x: x[b, head // group, keys].double()
        p = torch.exp(of(q) @ kv(k).T / dim**0.5 - lse[b, head, queries].double()[:, None])
        if mask is not None:
            p = p * visible(mask, head, queries, keys)
        return p, p * (of(d_o) @ kv(v).T - (of(d_o) * of(o)).sum(-1, keepdim=True))

    worst = 0.0
    for b, head in places:
        kv = head // group
        _, d_s = weights(b, head, rows, every)
        worst = max(worst, relative(dq[b, head, rows], d_s @ k[b, kv].double() / dim**0.5))
        expected_dk = expected_dv = 0.0
        for h in range(kv * group, (kv + 1) * group):
            p, d_s = weights(b, h, every, rows)
            expected_dk = expected_dk + d_s.T @ q[b, h].double() / dim**0.5
            expected_dv = expected_dv + p.T @ d_o[b, h].double()
        worst = max(worst, relative(dk[b, kv, rows], expected_dk), relative(dv[b, kv, rows], expected_dv))
    return worst
