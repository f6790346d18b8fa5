"""Losses of diffusion language models in float64, transcribed from the papers: a view at a time, each behind its own clean copy.

Fast-dLLM v2 (arXiv:2509.26328), NBDiff (arXiv:2512.06776), LLaDA (arXiv:2502.09992) and Dream. The network is whatever
Transformers makes of the weights; what a row sees is a dense mask, pair by pair.
"""

import dataclasses

import numpy as np
import torch

LEAST_PROBABILITY = 1e-3
NOISE_STREAM = int.from_bytes(b"nois", "big")


def philox(seed: int, stream: int, counter: int) -> list[int]:
    """Four words of Philox4x32-10 (Salmon et al., 2011)."""
    low = 0xFFFFFFFF
    x = [counter & low, counter >> 32, stream & low, stream >> 32]
    key = [seed & low, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ key[0], b & low, (a >> 32) ^ x[3] ^ key[1], a & low]
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    return x


def uniform(seed: int, stream: int, count: int) -> list[float]:
    """53 bits of two words each."""
    words = [word for counter in range(count // 2 + 1) for word in philox(seed, stream, counter)]
    return [((high << 32 | low) >> 11) * 2.0**-53 for high, low in zip(words[0::2], words[1::2])][:count]


@dataclasses.dataclass
class Recipe:
    """As RUN.json of train_tool has it."""

    attention: str
    mask_token_id: int
    block_size: int = 4
    views: int = 1
    shift: bool = True
    first_of_block: bool = True
    inverse_weight: bool = False
    max_weight: float = 1e3
    by_block: bool = True
    next_token_weight: float = 0.0
    seed: int = 0


def draw(recipe: Recipe, length: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each token is masked, and the probability that it is: a level, then its tokens, and so on."""
    unit = recipe.block_size if recipe.by_block else length
    numbers = iter(uniform(recipe.seed ^ NOISE_STREAM, number, 2 * length))
    masked, probability = [], []
    for begin in range(0, length, unit):
        level = (1 - LEAST_PROBABILITY) * next(numbers) + LEAST_PROBABILITY
        for _ in range(begin, min(begin + unit, length)):
            masked.append(next(numbers) < level)
            probability.append(level)
    return np.array(masked), np.array(probability)


def visible(recipe: Recipe, length: int) -> np.ndarray:
    """[2 length, 2 length], noised rows first; [length, length] without a clean copy."""
    if recipe.attention == "full":
        return np.ones((length, length), bool)
    row = np.arange(2 * length)
    clean, position = row >= length, row % length
    block = position // recipe.block_size
    cq, ck, pq, pk, bq, bk = clean[:, None], clean[None], position[:, None], position[None], block[:, None], block[None]
    context = cq & ck & (pk <= pq if recipe.attention == "context_causal" else bk <= bq)
    return (~cq & ~ck & (bq == bk)) | (~cq & ck & (bk < bq)) | context


def logits_of(model: torch.nn.Module, tokens: np.ndarray, seen: np.ndarray, length: int) -> torch.Tensor:
    bias = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~torch.from_numpy(seen), torch.finfo(torch.float64).min)
    positions = torch.arange(len(tokens)) % length
    return model(torch.from_numpy(tokens)[None], attention_mask=bias[None, None], position_ids=positions[None]).logits[0]


def example_terms(model: torch.nn.Module, recipe: Recipe, tokens: list[int], weights: list[float], number: int):
    """Sums of both losses, the number of learnt tokens, and the logits of [noised copies; clean copy]."""
    text, learnt, n = np.array(tokens), np.array(weights), len(tokens)
    masked, probability = draw(recipe, n, number)
    factor = np.minimum(recipe.max_weight, 1 / probability) if recipe.inverse_weight else np.ones(n)
    first = 1 if recipe.shift else 0
    masked_sum, next_sum, rows = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), []
    for view in range(recipe.views):
        hidden = (learnt > 0) & (masked if view == 0 else ~masked)
        noised = np.where(hidden, recipe.mask_token_id, text)
        whole = noised if recipe.attention == "full" else np.concatenate([noised, text])
        logits = logits_of(model, whole, visible(recipe, n), n)
        log_p = torch.log_softmax(logits, 1)
        for i in range(first, n):
            if hidden[i] and (recipe.first_of_block or i % recipe.block_size != 0):
                masked_sum = masked_sum - learnt[i] * factor[i] * log_p[i - first, text[i]]
        rows.append(logits[:n])
    if recipe.attention != "full":
        rows.append(logits[n:])
        for i in range(1, n):
            next_sum = next_sum - learnt[i] * log_p[n + i - 1, text[i]]
    return masked_sum, next_sum, learnt[first:].sum(), torch.cat(rows)


def diffusion_loss(model: torch.nn.Module, recipe: Recipe, sequences: list[list[int]], weights: list[list[float]]):
    """The loss of one step, and the logits of all rows."""
    terms = [example_terms(model, recipe, *example, number) for number, example in enumerate(zip(sequences, weights))]
    count = sum(term[2] for term in terms)
    loss = sum(term[0] + recipe.next_token_weight * term[1] for term in terms) / count
    return loss, torch.cat([term[3] for term in terms])
