"""Perpend's mask text as functions on PyTorch tensors, for peers that take a boolean mask or a mask_mod.

    pairs = parse("causal & (sink(64) | window(448))", {}, group=1)
    pairs(h, q, k)      # tensors of head, query and key; a boolean tensor of their broadcast shape

Only what bench/workloads.json uses. `|`, `&`, `~` of the text are those of Python, so eval() reads it.
"""

import re

import torch


class Pairs:
    def __init__(self, function):
        self.function = function

    def __call__(self, h, q, k):
        return self.function(h, q, k)

    def __and__(self, other):
        return Pairs(lambda h, q, k: self(h, q, k) & other(h, q, k))

    def __or__(self, other):
        return Pairs(lambda h, q, k: self(h, q, k) | other(h, q, k))

    def __invert__(self):
        return Pairs(lambda h, q, k: ~self(h, q, k))


def window(left, right=None):
    if right is None:
        return Pairs(lambda h, q, k: k > q - left)
    return Pairs(lambda h, q, k: (k > q - left) & (k < q + right))


def is_one_of(value, constants):
    found = value == constants[0]
    for constant in constants[1:]:
        found = found | (value == constant)
    return found


def segments(*runs):
    """Label: index of the run that holds a position; a run is a length or (length, count)."""
    lengths = []
    for run in runs:
        lengths += [run[0]] * run[1] if isinstance(run, tuple) else [run]
    index = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return lambda x: index[x]


def block_diffusion(n, b):
    """Noisy copy of n tokens, then the clean one (arXiv:2503.09573)."""
    noisy = lambda x: x < n
    block = lambda x: x % n // b
    return Pairs(
        lambda h, q, k: (noisy(q) & noisy(k) & (block(q) == block(k)))
        | (noisy(q) & ~noisy(k) & (block(q) > block(k)))
        | (~noisy(q) & ~noisy(k) & (block(q) >= block(k)))
    )


def parse(text, labels, group):
    """`labels`: the texts of bound names. `group`: query heads for each key/value head."""
    names = {
        "all": Pairs(lambda h, q, k: (q >= 0) & (k >= 0)),
        "none": Pairs(lambda h, q, k: (q < 0) & (k < 0)),
        "causal": Pairs(lambda h, q, k: k <= q),
        "window": window,
        "sink": lambda count: Pairs(lambda h, q, k: (k < count) & (q >= 0)),
        "same": lambda label: Pairs(lambda h, q, k: label(q) == label(k)),
        "upto": lambda label: Pairs(lambda h, q, k: label(k) <= label(q)),
        "before": lambda label: Pairs(lambda h, q, k: label(k) < label(q)),
        "q_in": lambda label, *values: Pairs(lambda h, q, k: is_one_of(label(q), values) & (k >= 0)),
        "k_in": lambda label, *values: Pairs(lambda h, q, k: is_one_of(label(k), values) & (q >= 0)),
        "near": lambda b, n: Pairs(lambda h, q, k: q // b - k // b < n),
        "every": lambda b, n, step=0: Pairs(lambda h, q, k: ((k // b + step * (h // group)) % n == 0) & (q >= 0)),
        "block": lambda n: lambda x: x // n,
        "segments": segments,
        "block_diffusion": block_diffusion,
    }
    for name, label in labels.items():
        # A run "length*count" is not a product.
        names[name] = eval(re.sub(r"(\d+)\s*\*\s*(\d+)", r"(\1, \2)", label), {"__builtins__": {}}, names)
    return eval(text, {"__builtins__": {}}, names)
