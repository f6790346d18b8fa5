"""Text in which recall is learnt before it is tested on records in filler (records.py), needing numpy alone.

    [K] a [V] 5 [ASK] a [V] 5 [K] b [V] 7 [ASK] a [V] 5 [ASK] b [V] 7 ...
"""

import dataclasses

import numpy as np
from records import ASK, KEY, RECORD_TOKENS, VALUE, Sequences, Vocabulary, distinct


@dataclasses.dataclass(frozen=True)
class Drill:
    """Of one sequence: `turns` times one of its `records`, drawn at random, is written, the first time as a record and from then
    on as a question."""

    records: int
    turns: int
    most_keys: int = 0  # of the vocabulary, and values, that are used; 0: all
    hint_weight: float = 0.5  # of naming a record's key once more at its [V] and at its value
    early_weight: float = 1.0  # of giving the answer at a question's key already

    @property
    def length(self) -> int:
        return RECORD_TOKENS * self.turns

    def make(self, vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> Sequences:
        """Without groups."""
        num_keys, num_values = (min(n, self.most_keys or n) for n in (vocabulary.keys, vocabulary.values))
        rows = np.arange(count)[:, None]
        drawn = rng.integers(0, self.records, (count, self.turns))
        keys = (vocabulary.first_key + distinct(num_keys, self.records, count, rng))[rows, drawn]
        values = (vocabulary.first_value + rng.integers(0, num_values, (count, self.records)))[rows, drawn]
        earlier = np.tril(np.ones((self.turns, self.turns), bool), -1)
        is_question = ((drawn[:, :, None] == drawn[:, None, :]) & earlier).any(axis=2)

        tokens = np.stack([np.where(is_question, ASK, KEY), keys, np.full_like(keys, VALUE), values], axis=2)
        nothing = np.full_like(keys, -1)
        targets = np.stack([nothing, values, np.where(is_question, values, keys), keys], axis=2)
        hint = np.where(is_question, 0, self.hint_weight)
        weights = np.stack([0 * hint, self.early_weight * is_question, is_question + hint, hint], axis=2)
        targets[weights == 0] = -1
        flat = (count, self.length)
        return Sequences(
            tokens.reshape(flat).astype(np.uint16),
            targets.reshape(flat).astype(np.int32),
            weights.reshape(flat).astype(np.float32),
            np.empty((count, 0), np.int64),
        )
