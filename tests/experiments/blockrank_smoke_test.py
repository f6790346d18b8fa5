"""Runs experiments/blockrank at its smallest: the loss falls and the answer comes first far more often than by chance. blockrank_smoke_test.py PROGRAM"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "experiments" / "blockrank"), str(ROOT / "experiments" / "common")]
import numpy as np
from prompts import Form, Language, Lists, draw_prompts

PROGRAM = sys.argv[1]


class Prompts(unittest.TestCase):
    def test_only_the_answer_holds_all_facts(self):
        language = Language(ids=40, attributes=9, words=50, facts=4, doc_tokens=20)
        lists = Lists(prompts=50, docs=10, query_facts=3)
        parts = draw_prompts([7], language, lists, Form(), 50)
        for query, docs, answer in zip(parts["query"], parts["docs"], parts["positive"]):
            asked = set(zip(query[::2], query[1::2]))
            held = [len(asked & set(zip(doc[:-1], doc[1:]))) for doc in docs]
            self.assertEqual((held[answer], held.count(3)), (3, 1))
            self.assertGreaterEqual(held.count(2), lists.hard_negatives)

    def test_an_order_moves_documents_with_their_ids(self):
        language = Language(ids=40, attributes=9, words=50, facts=4, doc_tokens=20)
        first, other = (draw_prompts([7], language, Lists(3, 10), Form(order=order), 3) for order in (0, 1))
        self.assertFalse(np.array_equal(first["docs"], other["docs"]))
        for prompt in range(3):
            self.assertEqual(*(sorted(map(tuple, parts["docs"][prompt])) for parts in (first, other)))
            answers = [parts["docs"][prompt, parts["positive"][prompt]] for parts in (first, other)]
            np.testing.assert_array_equal(*answers)
            np.testing.assert_array_equal(other["docs"][prompt, :, 1], other["ids"][prompt])


class Experiment(unittest.TestCase):
    def test_it_learns_and_reports(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out"
            command = [sys.executable, ROOT / "experiments/blockrank/run.py", "--perpend", PROGRAM, "--out", out, "--scale", "tiny"]
            command += ["--arms", "C", "--device", "cpu", "--threads", "1"]
            run = subprocess.run(command, capture_output=True, text=True, timeout=300)
            self.assertEqual(run.returncode, 0, run.stderr)
            result = json.loads((out / "results.json").read_text())["runs"][0]
            training = result["training"]
            for loss in ("next_token", "blockrank"):
                self.assertLess(training["losses"][loss], 0.8 * training["first_losses"][loss])
            rankings = {name: measures["ranking"] for name, measures in result["lists"].items()}
            self.assertGreater(rankings["docs-4"]["attention"]["p_at_1"], 0.5)
            self.assertGreater(rankings["docs-4"]["attention"]["mrr_at_10"], 0.7)
            # One pass up to the scoring layer ranks as the training pass does, in any order of the documents.
            one_pass = [rankings[f"order-{order}"]["one_pass"]["p_at_1"] for order in range(2)]
            self.assertEqual(one_pass[0], one_pass[1])
            self.assertAlmostEqual(one_pass[0], rankings["order-0"]["attention"]["p_at_1"], delta=0.03)
            self.assertIn("| C |", (out / "table.md").read_text())
            xml.etree.ElementTree.parse(out / "ranking.svg")
            self.refuses_other_layers(out / "work" / "tiny")

    def refuses_other_layers(self, work: pathlib.Path) -> None:
        for flags, error in ((["--blockrank", "2"], "layer 2 is not one of 2"), (["--one-pass"], "--one-pass needs --blockrank")):
            command = [PROGRAM, "evaluate", "--model", work / "runs/C-1/training/model", "--data", work / "data/docs-4/block", "--threads", "1", *flags]
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(error, run.stderr)


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
