"""Ranking prompts to train on (docs/systems/blockrank.md), as folders of sequences, needing numpy alone.

    INSTRUCTION query | DOC id BAR facts and noise END id | ... | QUERY query COLON OPEN id CLOSE EOS

A document holds facts, each an attribute and its value, among noise words. A query names some facts of one document, the
answer; hard negatives hold all of these facts but one, so that no single fact tells.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from sequence_folder import SequenceFolderWriter

INSTRUCTION, DOC, BAR, END, QUERY, COLON, OPEN, CLOSE, EOS, FIRST_COUNT = range(10)
MOST_ASKED = 3  # facts of a query
FIRST_ID = FIRST_COUNT + MOST_ASKED + 1
FRAME_TOKENS = 5  # of a document besides facts and noise
CHUNK_TOKENS = 1 << 21  # that are in memory at a time


@dataclasses.dataclass(frozen=True)
class Language:
    """Tokens: marks, then ids, attributes and words. Words are values of facts and noise alike."""

    ids: int = 1000
    attributes: int = 32
    words: int = 6000
    facts: int = 6  # of a document
    doc_tokens: int = 32
    query_position: int = 8192  # of the query block's first token

    @property
    def first_attribute(self) -> int:
        return FIRST_ID + self.ids

    @property
    def first_word(self) -> int:
        return self.first_attribute + self.attributes

    @property
    def vocab_size(self) -> int:
        return -(-(self.first_word + self.words) // 64) * 64

    @property
    def noise(self) -> int:
        return self.doc_tokens - FRAME_TOKENS - 2 * self.facts


@dataclasses.dataclass(frozen=True)
class Lists:
    """So many prompts of one shape. A third of the other documents are hard negatives if a query has several facts."""

    prompts: int
    docs: int
    query_facts: int = 3
    copy_weight: float = 0.0  # of tokens that copy earlier ones: closing ids, the second query
    hint_weight: float = 0.0  # of what closing ids predict: how many of the query's facts their document holds

    @property
    def hard_negatives(self) -> int:
        return (self.docs - 1) // 3 if self.query_facts > 1 else 0

    def num_tokens(self, language: Language) -> int:
        """Of a prompt, at most."""
        return self.docs * language.doc_tokens + 4 * self.query_facts + 7


@dataclasses.dataclass(frozen=True)
class Form:
    """How the same prompts are written down."""

    query_first: bool = True  # the query stands in the instruction, too
    order: int = 0  # the documents' order: another number shuffles every list anew


def draw_without_repeats(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> np.ndarray:
    """[..., count] different numbers below the last of `shape`, in random order."""
    return rng.random(shape, np.float32).argsort(-1)[..., :count]


def draw_facts(rng: np.random.Generator, language: Language, lists: Lists, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Attributes and values [prompts, docs, facts]. Document 0 is the answer, its first facts are the query."""
    shape = (count, lists.docs, language.attributes)
    priority = rng.random(shape, np.float32)
    value_of = rng.integers(0, language.words, shape)
    asked = priority[:, 0].argsort(-1)[:, : lists.query_facts]
    hard = np.arange(1, 1 + lists.hard_negatives)
    left_out = rng.integers(0, lists.query_facts, (count, len(hard)))
    prompt = np.arange(count)
    for fact in range(lists.query_facts):
        attribute = asked[:, fact]
        value = value_of[prompt, 0, attribute]
        row, column = np.nonzero(left_out != fact)
        priority[row, hard[column], attribute[row]] = -1
        value_of[row, hard[column], attribute[row]] = value[row]
        row, column = np.nonzero(left_out == fact)
        other = 1 + rng.integers(0, language.words - 1, len(row))
        value_of[row, hard[column], attribute[row]] = (value[row] + other) % language.words
    attributes = priority.argsort(-1)[..., : language.facts]
    return attributes, np.take_along_axis(value_of, attributes, -1)


def write_documents(rng: np.random.Generator, language: Language, ids: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """Tokens [prompts, docs, doc_tokens] of ids [prompts, docs] and facts [prompts, docs, facts, 2], at random places."""
    noise = language.first_word + rng.integers(0, language.words, (*ids.shape, language.noise))
    order = rng.random((*ids.shape, language.facts + language.noise), np.float32).argsort(-1)
    sizes = np.where(order < language.facts, 2, 1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, sizes.cumsum(-1) - sizes, -1)
    places += 3
    tokens = np.empty((*ids.shape, language.doc_tokens), np.int64)
    for part in (0, 1):
        np.put_along_axis(tokens, places[..., : language.facts] + part, facts[..., part], -1)
    np.put_along_axis(tokens, places[..., language.facts :], noise, -1)
    tokens[..., [0, 2, -2]] = DOC, BAR, END
    tokens[..., 1] = tokens[..., -1] = ids
    return tokens


def draw_prompts(seed: list[int], language: Language, lists: Lists, form: Form, count: int) -> dict[str, np.ndarray]:
    """Parts of `count` prompts: query; docs, ids and how many asked facts each has held, in the order of the lists; positive, the
    answer's place, from 0."""
    rng = np.random.default_rng(seed)
    ids = FIRST_ID + draw_without_repeats(rng, (count, language.ids), lists.docs)
    attributes, values = draw_facts(rng, language, lists, count)
    facts = np.stack([language.first_attribute + attributes, language.first_word + values], -1)
    docs = write_documents(rng, language, ids, facts)
    asked = facts[:, 0, : lists.query_facts]
    held = (facts[:, :, :, None] == asked[:, None, None]).all(-1).sum((2, 3))
    order = draw_without_repeats(np.random.default_rng([*seed, 1 + form.order]), (count, lists.docs), lists.docs)
    return {
        "query": asked.reshape(count, -1),
        "held": np.take_along_axis(held, order, 1),
        "docs": np.take_along_axis(docs, order[..., None], 1),
        "ids": np.take_along_axis(ids, order, 1),
        "positive": order.argmin(1),
    }


def blocks_of(parts: dict[str, np.ndarray], form: Form) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the instruction and of the query block with its answer, [prompts, length] each."""
    count = len(parts["query"])

    def column(*tokens: int) -> np.ndarray:
        return np.broadcast_to(np.array(tokens), (count, len(tokens)))

    answer = parts["ids"][np.arange(count), parts["positive"]][:, None]
    first = [column(INSTRUCTION)] + ([parts["query"]] if form.query_first else [])
    last = [column(QUERY), parts["query"], column(COLON, OPEN), answer, column(CLOSE, EOS)]
    return np.concatenate(first, 1), np.concatenate(last, 1)


def lay_out(language: Language, lists: Lists, form: Form, first: int, last: int) -> dict[str, np.ndarray]:
    """What all prompts of one shape share, [tokens] each; `first` and `last` are the lengths of those blocks."""
    sizes = [first] + [language.doc_tokens] * lists.docs + [last]
    starts = [0] + [first] * lists.docs + [language.query_position]
    is_closing = np.arange(language.doc_tokens) == language.doc_tokens - 1
    copied = lists.copy_weight if form.query_first else 0.0
    hinted = lists.hint_weight if form.query_first else 0.0
    of_tokens = [np.zeros(first), np.tile(is_closing * lists.copy_weight, lists.docs)]
    of_tokens += [np.zeros(1), np.full(last - 6, copied), np.zeros(2), np.ones(3)]
    # A row's weight is that of the token behind it.
    weights = np.roll(np.concatenate(of_tokens), -1)
    weights[first : first + language.doc_tokens * lists.docs] += np.tile(is_closing * hinted, lists.docs)
    return {
        "weights": weights,
        "positions": np.concatenate([start + np.arange(size) for start, size in zip(starts, sizes)]),
        "label.doc": np.repeat(np.arange(lists.docs + 2), sizes),
        # 2 for the query block, whose number differs from list to list.
        "label.part": np.repeat([0] + [1] * lists.docs + [2], sizes),
    }


def targets_of(tokens: np.ndarray, held: np.ndarray, first: int, language: Language) -> np.ndarray:
    """The token behind each; behind a closing id, which nothing follows from, how many asked facts its document holds."""
    targets = np.roll(tokens, -1, 1)
    targets[:, -1] = -1
    closing = first - 1 + language.doc_tokens * np.arange(1, held.shape[1] + 1)
    targets[:, closing] = FIRST_COUNT + held
    return targets


@dataclasses.dataclass(frozen=True)
class Batch:
    """Prompts that one step reads, and how many such steps there are."""

    lists: tuple[Lists, ...]
    repeats: int

    def num_tokens(self, language: Language) -> int:
        return sum(lists.prompts * lists.num_tokens(language) for lists in self.lists)

    def draw(self, seed: list[int], language: Language, form: Form, repeats: int) -> tuple:
        """Arguments of SequenceFolderWriter.add_ragged() for so many repeats, one after another."""
        columns: dict[str, list] = {}
        lengths: dict[str, list] = {}

        def add(name: str, values: np.ndarray, lists: Lists, dtype: type) -> None:
            """`values`: [repeats * prompts, length] of one shape."""
            columns.setdefault(name, []).append(values.astype(dtype).reshape(repeats, -1))
            lengths.setdefault(name, []).extend([values.shape[1]] * lists.prompts)

        for number, lists in enumerate(self.lists):
            count = repeats * lists.prompts
            parts = draw_prompts([*seed, number], language, lists, form, count)
            first, last = blocks_of(parts, form)
            tokens = np.concatenate([first, parts["docs"].reshape(count, -1), last], 1)
            add("tokens", tokens, lists, np.uint16)
            add("targets", targets_of(tokens, parts["held"], first.shape[1], language), lists, np.int32)
            for name, values in lay_out(language, lists, form, first.shape[1], last.shape[1]).items():
                add(name, np.broadcast_to(values, tokens.shape), lists, np.float32 if name == "weights" else np.int32)
            opening = tokens.shape[1] - 4
            add("list.signals", np.broadcast_to([opening - 1, opening], (count, 2)), lists, np.int32)
            add("list.positives", 1 + parts["positive"][:, None], lists, np.int32)
            add("list.ids", parts["ids"], lists, np.int32)
        found = {name: (np.tile(lengths[name], repeats), np.concatenate(columns[name], 1).ravel()) for name in columns}
        arrays = {name: values for name, (_, values) in found.items() if name != "tokens" and not name.startswith("list.")}
        return *found["tokens"], arrays, {name: found[name] for name in found if name.startswith("list.")}


def write_prompts(path: pathlib.Path, seed: int, language: Language, batches: list[Batch], form: Form = Form()) -> None:
    """Batches one after another. The same seed draws the same prompts in any form."""
    writer = SequenceFolderWriter(path)
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for stage, batch in enumerate(batches):
            chunk = max(1, CHUNK_TOKENS // batch.num_tokens(language))
            begins = range(0, batch.repeats, chunk)

            def draw(number: int, batch: Batch = batch, chunk: int = chunk, stage: int = stage) -> tuple:
                repeats = min(chunk, batch.repeats - number * chunk)
                return batch.draw([seed, stage, number], language, form, repeats)

            for group in range(0, len(begins), workers):
                for parts in pool.map(draw, range(group, min(group + workers, len(begins)))):
                    writer.add_ragged(*parts)
    writer.finish()
