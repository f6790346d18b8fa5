"""Samplers of diffusion language models, written out from their papers over diffusion_reference.Network. Greedy."""

import dataclasses

import numpy as np
from diffusion_reference import Network, block_causal, block_decode, causal, full


@dataclasses.dataclass
class Rule:
    """Which masked positions a step fills: those above a threshold, by a factor, or a fixed number."""

    threshold: float | None = None
    strict: bool = True  # above the threshold, or at least the threshold
    factor: float | None = None
    steps: int | None = None  # the masked positions of a sub-block are spread over so many

    def count(self, confidences: list[float], masked_at_start: int, step: int) -> int:
        """How many of the positions, most confident first."""
        if self.threshold is not None:
            above = sum(c > self.threshold if self.strict else c >= self.threshold for c in confidences)
            return max(1, above)
        if self.factor is not None:
            most = 1
            while most < len(confidences) and confidences[most] >= 1 - self.factor / (most + 2):
                most += 1
            return most
        quota, more = divmod(masked_at_start, self.steps)
        return max(1, quota + (step < more))


@dataclasses.dataclass
class Answer:
    tokens: list[int]
    forwards: int = 0  # of denoising


def proposals(logits: np.ndarray, mask_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest token of each row and its probability; the mask token is none."""
    logits = logits.astype(np.float32).copy()
    logits[:, mask_id] = -np.inf
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return logits.argmax(-1), p.max(-1) / p.sum(-1)


def ended(canvas: list, start: int, limit: int, stop: int) -> bool:
    """Whether nothing that is masked can matter any more."""
    for token in canvas[start:limit]:
        if token is None:
            return False
        if token == stop:
            return True
    return True


def cut(canvas: list, start: int, limit: int, stop: int) -> list[int]:
    answer = canvas[start:limit]
    return answer[: answer.index(stop) + 1] if stop in answer else answer


def fill(canvas: list, begin: int, end: int, predict, rule: Rule, is_done) -> int:
    """Fills [begin, end). predict() gives tokens and confidences of the positions of a list. Returns its calls."""
    masked_at_start = sum(token is None for token in canvas[begin:end])
    for step in range(end - begin + 1):
        masked = [i for i in range(begin, end) if canvas[i] is None]
        if not masked or is_done():
            return step
        tokens, confidences = predict(masked)
        order = sorted(range(len(masked)), key=lambda i: (-confidences[i], i))
        count = rule.count([confidences[i] for i in order], masked_at_start, step)
        for i in order[:count]:
            canvas[masked[i]] = int(tokens[i])
    raise AssertionError("a step filled nothing")


def tokens_of(canvas: list, mask_id: int) -> list[int]:
    return [mask_id if token is None else token for token in canvas]


def fast_dllm_v2(
    net: Network, prompt: list[int], max_new: int, block: int, sub_block: int, rule: Rule, mask_id: int, stop: int,
    sub_block_cache: bool = False,
) -> Answer:
    """Blocks from position 0 on; finished ones are bidirectional inside."""
    x, limit, answer = list(prompt), len(prompt) + max_new, Answer([])
    while len(x) < limit and stop not in x[len(prompt) :]:
        start = len(x) // block * block
        if start == len(x):
            logits = net.logits(x, block_causal(len(x), block))
            x.append(int(proposals(logits[-1:], mask_id)[0][0]))
        canvas = x[: start + block] + [None] * (start + block - len(x))
        fresh = [False]

        def predict(masked, begin=0):
            tokens = tokens_of(canvas, mask_id)
            mask = block_causal(len(canvas), block)
            if sub_block_cache and fresh[0] and canvas[begin] is not None:
                rows = list(range(begin, begin + sub_block))
                logits = net.logits(tokens, mask[rows], rows)
                logits = logits[[i - 1 - begin for i in masked]]
            else:
                logits = net.logits(tokens, mask)[[i - 1 for i in masked]]
                fresh[0] = True
            return proposals(logits, mask_id)

        def is_done():
            return ended(canvas, len(prompt), min(limit, len(canvas)), stop)

        for begin in range(start, start + block, sub_block):
            answer.forwards += fill(canvas, begin, begin + sub_block, lambda m, b=begin: predict(m, b), rule, is_done)
        if None in canvas:
            return Answer(cut(canvas, len(prompt), limit, stop), answer.forwards)
        x = canvas
    answer.tokens = cut(x, len(prompt), limit, stop)
    return answer


def nbdiff(
    net: Network, prompt: list[int], max_new: int, block: int, sub_block: int, rule: Rule, mask_id: int, stop: int
) -> Answer:
    """Blocks from the end of the prompt on; finished ones are causal."""
    x, limit, answer = list(prompt), len(prompt) + max_new, Answer([])
    while len(x) < limit and stop not in x[len(prompt) :]:
        start = len(x)
        logits = net.logits(x, causal(len(x)))
        canvas = x + [int(proposals(logits[-1:], mask_id)[0][0])] + [None] * (block - 1)

        def predict(masked):
            logits = net.logits(tokens_of(canvas, mask_id), block_decode(len(canvas), start))
            return proposals(logits[[i - 1 for i in masked]], mask_id)

        def is_done():
            return ended(canvas, len(prompt), min(limit, len(canvas)), stop)

        for begin in range(start, start + block, sub_block):
            answer.forwards += fill(canvas, begin, begin + sub_block, predict, rule, is_done)
        if None in canvas:
            return Answer(cut(canvas, len(prompt), limit, stop), answer.forwards)
        x = canvas
    answer.tokens = cut(x, len(prompt), limit, stop)
    return answer


def full_attention(
    net: Network, prompt: list[int], length: int, block: int, rule: Rule, mask_id: int, stop: int, shifted: bool,
    cache: str = "none",
) -> Answer:
    """LLaDA (unshifted) and Dream (shifted): a canvas of fixed length; Fast-dLLM v1's prefix and dual cache."""
    canvas, answer = list(prompt) + [None] * length, Answer([])
    everything = full(len(canvas))
    for start in range(len(prompt), len(canvas), block):
        end = min(start + block, len(canvas))
        fresh = [False]

        def predict(masked):
            tokens, rows = tokens_of(canvas, mask_id), list(range(len(canvas)))
            if cache == "none" or not fresh[0]:
                logits, fresh[0] = net.logits(tokens, everything), True
            else:
                rows = rows[start:] if cache == "prefix" else rows[start:end]
                logits = net.logits(tokens, everything[rows], rows)
            return proposals(logits[[rows.index(i - shifted) for i in masked]], mask_id)

        def is_done():
            return ended(canvas, len(prompt), end, stop)

        if shifted and cache != "none":
            # Row start - 1 lies outside of the block and would be stale later.
            answer.forwards += fill(canvas, start, start + 1, predict, Rule(threshold=2.0), is_done)
        answer.forwards += fill(canvas, start, end, predict, rule, is_done)
        if stop in canvas[len(prompt) : end]:
            break
    answer.tokens = cut(canvas, len(prompt), len(prompt) + length, stop)
    return answer
