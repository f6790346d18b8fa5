"""Text with records to recall, as folders of sequences (docs/training.md), needing numpy alone.

    filler ... [K] key [V] value ... filler ... [ASK] key [V] value [ASK2] key [V] value ...

Filler is a Markov chain of order 1; records lie at random places in it; questions come last. [ASK] wants the value of a key;
[ASK2] wants two hops: the record of its key holds another key, whose record holds the value.
"""

import dataclasses
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from sequence_folder import SequenceFolderWriter

KEY, VALUE, ASK, ASK_TWICE, FIRST_FILLER = range(5)  # tokens
RECORD_TOKENS = 4
GROUP_TOKENS = 32  # distances are told apart by blocks of so many tokens
TWO_HOPS = 1 << 16  # added to the group of a question of two hops
CHUNK_TOKENS = 1 << 24  # that are in memory at a time


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Filler symbols first, then keys, then values. `branches`: successors of a symbol in the chain, equally likely."""

    filler: int = 1000
    keys: int = 512
    values: int = 512
    branches: int = 4

    @property
    def first_key(self) -> int:
        return FIRST_FILLER + self.filler

    @property
    def first_value(self) -> int:
        return self.first_key + self.keys

    def successors(self) -> np.ndarray:
        """[filler, branches]: the language, the same for all data."""
        return np.random.default_rng(20250101).integers(0, self.filler, (self.filler, self.branches))


@dataclasses.dataclass
class Sequences:
    """tokens, targets and their weights [sequences, length]; groups [sequences, asked]: blocks of GROUP_TOKENS from question to
    record."""

    tokens: np.ndarray
    targets: np.ndarray  # what each row is to predict
    weights: np.ndarray
    groups: np.ndarray


def markov_chain(vocabulary: Vocabulary, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """[sequences, tokens]"""
    successors = vocabulary.successors().astype(np.uint16)
    chain = np.empty(shape[::-1], np.uint16)
    chain[0] = rng.integers(0, vocabulary.filler, shape[0])
    turns = rng.integers(0, vocabulary.branches, shape[::-1], dtype=np.uint8)
    for step in range(1, shape[1]):
        chain[step] = successors[chain[step - 1], turns[step]]
    return FIRST_FILLER + chain.T


def distinct(count: int, draws: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """[rows, draws]: in each row different numbers below `count`, in random order."""
    if 4 * draws > count:
        return np.argsort(rng.random((rows, count), dtype=np.float32), axis=1)[:, :draws]
    drawn = np.empty((draws, rows), np.int64)
    for i in range(draws):
        # The number of one of those that are left, counted from below.
        drawn[i] = rng.integers(0, count - i, rows)
        for earlier in np.sort(drawn[:i], axis=0):
            drawn[i] += drawn[i] >= earlier
    return drawn.T


@dataclasses.dataclass(frozen=True)
class Task:
    """Of one sequence. Chains take two records each; a question about one has two hops. No record is asked for twice
    unless all questions are asked `repeats` times."""

    length: int
    records: int = 24
    chains: int = 4
    questions: int = 12
    two_hop_questions: int = 4
    repeats: int = 1
    filler_weight: float = 0.1  # of predicting filler, where an answer has 1
    hint_weight: float = 0.0  # of naming a record's key once more at its [V] and at its value

    def __post_init__(self):
        if self.questions > self.records - 2 * self.chains or self.two_hop_questions > self.chains:
            raise ValueError(f"{self}: more questions than records to ask for")
        if self.filler < 1:
            raise ValueError(f"{self}: the sequence is too short")

    @property
    def asked(self) -> int:
        return self.repeats * (self.questions + self.two_hop_questions)

    @property
    def filler(self) -> int:
        return self.length - RECORD_TOKENS * (self.records + self.asked)

    def make(self, vocabulary: Vocabulary, count: int, rng: np.random.Generator) -> Sequences:
        rows = np.arange(count)[:, None]
        keys = vocabulary.first_key + distinct(vocabulary.keys, self.records, count, rng)
        values = vocabulary.first_value + rng.integers(0, vocabulary.values, (count, self.records))
        # Records 2c and 2c + 1 are chain c: the first holds the key of the second.
        firsts = 2 * np.arange(self.chains)
        values[:, firsts] = keys[:, firsts + 1]

        gaps = np.sort(rng.integers(0, self.filler + 1, (count, self.records)), axis=1)
        starts = (gaps + RECORD_TOKENS * np.arange(self.records))[rows, distinct(self.records, self.records, count, rng)]

        singles = 2 * self.chains + distinct(self.records - 2 * self.chains, self.questions, count, rng)
        chained = 2 * distinct(self.chains, self.two_hop_questions, count, rng)
        order = distinct(self.asked, self.asked, count, rng) // self.repeats
        asked = np.concatenate([singles, chained], axis=1)[rows, order]
        answering = np.concatenate([singles, chained + 1], axis=1)[rows, order]
        has_two_hops = order >= self.questions

        tokens = np.zeros((count, self.length), np.uint16)
        weights = np.zeros((count, self.length), np.float32)
        is_filler = np.ones((count, self.length), bool)
        is_filler[:, self.length - RECORD_TOKENS * self.asked :] = False
        for offset, part in enumerate((KEY, keys, VALUE, values)):
            tokens[rows, starts + offset] = part
            is_filler[rows, starts + offset] = False
        tokens[is_filler] = markov_chain(vocabulary, (count, self.filler), rng).ravel()
        weights[is_filler] = self.filler_weight
        questions = tokens[:, self.length - RECORD_TOKENS * self.asked :].reshape(count, self.asked, RECORD_TOKENS)
        questions[:, :, 0] = np.where(has_two_hops, ASK_TWICE, ASK)
        questions[:, :, 1] = keys[rows, asked]
        questions[:, :, 2] = VALUE
        questions[:, :, 3] = values[rows, answering]
        answers = self.length - RECORD_TOKENS * np.arange(self.asked, 0, -1) + 3
        weights[:, answers] = 1
        # Each row predicts the token behind it.
        targets = np.full((count, self.length), -1, np.int32)
        targets[:, :-1] = tokens[:, 1:]
        weights = np.roll(weights, -1, axis=1)
        weights[:, -1] = 0
        if self.hint_weight > 0:
            for offset in (2, 3):
                targets[rows, starts + offset] = keys
                weights[rows, starts + offset] = self.hint_weight

        # The row that answers stands before the answer; of two records the farther one counts.
        farthest = np.minimum(starts[rows, asked], starts[rows, answering]) + 3
        groups = (answers - 1 - farthest) // GROUP_TOKENS + TWO_HOPS * has_two_hops
        return Sequences(tokens, targets, weights, groups)


def write_data(folder: pathlib.Path, vocabulary: Vocabulary, parts: list[tuple[Task, int]], seed: int, test: bool = False) -> None:
    """Sequences of one task after another, each so many. Of a test only answers count, each in a group."""
    rng = np.random.default_rng(seed)
    writer = SequenceFolderWriter(folder)
    for task, count in parts:
        step = max(1, CHUNK_TOKENS // task.length)
        for first in range(0, count, step):
            part = task.make(vocabulary, min(step, count - first), rng)
            weights = part.weights * (part.weights == 1) if test else part.weights
            arrays = {"targets": part.targets, "weights": weights}
            writer.add(part.tokens, arrays, {"list.group": part.groups} if test else {})
    writer.finish()
