"""LongGen's experiment on a CPU in seconds: learns, tests all arms, and goes on where it was stopped. longgen_smoke_test.py PROGRAM"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

import numpy as np

PROGRAM = sys.argv[1]
FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "longgen"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "common")]
from drills import Drill
from initial_model import write_initial_model
from protocol import TINY
from records import ASK, ASK_TWICE, FIRST_FILLER, GROUP_TOKENS, KEY, TWO_HOPS, VALUE, Task, Vocabulary
from safetensors_file import read_safetensors


def answers(tokens: list[int], asked: int) -> tuple[dict[int, tuple[int, int]], list[list[int]]]:
    """Of a sequence value and place of each key's record, and the questions."""
    records, place, end = {}, 0, len(tokens) - 4 * asked
    while place < end:
        if tokens[place] == KEY:
            assert tokens[place + 2] == VALUE and tokens[place + 1] not in records
            records[tokens[place + 1]] = (tokens[place + 3], place + 3)
            place += 4
        else:
            assert tokens[place] >= FIRST_FILLER
            place += 1
    return records, [tokens[i : i + 4] for i in range(end, len(tokens), 4)]


class Records(unittest.TestCase):
    def test_answers_are_in_the_text_as_far_back_as_the_group_says(self):
        vocabulary = Vocabulary(filler=30, keys=40, values=20)
        task = Task(300, records=12, chains=3, questions=5, two_hop_questions=2, repeats=2, hint_weight=0.25)
        made = task.make(vocabulary, 40, np.random.default_rng(1))
        for tokens, targets, groups, weights in zip(made.tokens.tolist(), made.targets, made.groups, made.weights):
            records, questions = answers(tokens, task.asked)
            self.assertEqual(len(records), 12)
            self.assertEqual(len({tuple(question[:2]) for question in questions}), 7)
            for number, (ask, key, sign, value) in enumerate(questions):
                found, place = records[key]
                if ask == ASK_TWICE:
                    found, second = records[found]
                    place = min(place, second)
                row = task.length - 4 * (task.asked - number) + 2
                self.assertIn(ask, (ASK, ASK_TWICE))
                self.assertEqual((sign, value), (VALUE, found))
                self.assertGreaterEqual(value, vocabulary.first_value)
                self.assertEqual(groups[number], (row - place) // GROUP_TOKENS + TWO_HOPS * (ask == ASK_TWICE))
                self.assertEqual((weights[row], targets[row]), (1, value))
            for key, (_, place) in records.items():
                self.assertEqual(targets[place - 1 : place + 1].tolist(), [key, key])
            self.assertEqual((weights == 1).sum(), task.asked)
            self.assertEqual((weights == 0.25).sum(), 2 * task.records)

    def test_drills_ask_for_what_was_written(self):
        vocabulary = Vocabulary(filler=30, keys=40, values=20)
        drill = Drill(records=3, turns=9, most_keys=8, hint_weight=0.25, early_weight=0.75)
        made = drill.make(vocabulary, 40, np.random.default_rng(1))
        used = set()
        for tokens, targets, weights in zip(made.tokens.tolist(), made.targets.tolist(), made.weights.tolist()):
            self.assertEqual(len(tokens), drill.length)
            found = {}
            for place in range(0, drill.length, 4):
                sign, key, second_sign, value = tokens[place : place + 4]
                self.assertEqual(second_sign, VALUE)
                self.assertEqual(sign, ASK if key in found else KEY)
                if sign == ASK:
                    expected = ([-1, value, value, -1], [0, 0.75, 1, 0])
                else:
                    self.assertTrue(vocabulary.first_key <= key < vocabulary.first_key + 8)
                    self.assertTrue(vocabulary.first_value <= value < vocabulary.first_value + 8)
                    expected = ([-1, -1, key, key], [0, 0, 0.25, 0.25])
                self.assertEqual((targets[place : place + 4], weights[place : place + 4]), expected)
                self.assertEqual(found.setdefault(key, value), value)
            self.assertLessEqual(len(found), 3)
            used |= set(found)
        self.assertEqual(len(used), 8)


class InitialModel(unittest.TestCase):
    def test_embedding_keeps_tokens_apart(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "initial"
            write_initial_model(path, TINY.shape(), 3)
            tensors = read_safetensors(path / "model.safetensors")
            self.assertEqual(len(tensors), 3 + 9 * TINY.layers)
            for name, values in tensors.items():
                deviation = 0 if "norm" in name else 0.5 if "embed" in name else 0.08
                self.assertAlmostEqual(values.std(), deviation, delta=0.1 * deviation)
                self.assertAlmostEqual(values.mean(), 1 if "norm" in name else 0, delta=0.1 * deviation)


class Experiment(unittest.TestCase):
    def run_it(self, out: pathlib.Path) -> str:
        command = [sys.executable, FOLDER / "run.py", "--perpend", PROGRAM, "--out", out, "--scale", "tiny", "--arms", "F,H", "--device", "cpu"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def test_learns_and_tells_all_arms(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "longgen"
            self.run_it(out)
            log = [json.loads(line) for line in (out / "seed-1" / "recall" / "log.jsonl").read_text().splitlines()]
            # A model that has only learnt to answer with one of the two values in the text is right every second time.
            self.assertGreater(log[-1]["evaluation"]["exact_match"], 0.9)
            table = json.loads((out / "table.json").read_text())["percent"]
            self.assertEqual(list(table), ["A", "F", "H", "F->H", "F->S"])
            xml.etree.ElementTree.parse(out / "accuracy.svg")

            written = (out / "seed-1" / "H" / "log.jsonl").stat().st_mtime_ns
            self.assertIn("| H: hybrid, full in the middle |", self.run_it(out))
            self.assertEqual((out / "seed-1" / "H" / "log.jsonl").stat().st_mtime_ns, written)


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
