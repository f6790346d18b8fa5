"""Runs experiments/block-diffusion at its smallest: questions have the right answers, and every loss falls. block_diffusion_smoke_test.py PROGRAM"""

import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "experiments" / "block-diffusion"), str(ROOT / "experiments" / "common")]
from functions import FUNCTIONS
from protocol import ARMS, BYTE_VOCABULARY, SMOLLM2, training_config
from runs import toml_text
from tasks import TASKS, make_items

PROGRAM = sys.argv[1]


class Tasks(unittest.TestCase):
    def test_sums_are_right(self):
        for item in make_items(50, 3, tasks=("sum",)):
            value = int(re.search(r"Start with (\d+)", item.question)[1])
            for sign, change in re.findall(r"(Add|Take away) (\d+)", item.question):
                value += int(change) if sign == "Add" else -int(change)
            self.assertEqual(item.answer.splitlines()[-1], f"#### {value}")
            for line in item.answer.splitlines()[:-1]:
                left, right = line.split(" = ")
                self.assertEqual(eval(left), int(right))

    def test_lists_hold_the_words_that_were_asked(self):
        for item in make_items(50, 3, tasks=("list",)):
            self.assertEqual(set(item.question.split(": ")[1].split(", ")), set(item.answer.split()))
        for item in make_items(50, 3, tasks=("record",)):
            for line in item.answer.splitlines():
                self.assertTrue(all(str(value) in item.question for key, value in json.loads(line).items() if key != "member"))

    def test_functions_are_python(self):
        self.assertEqual(len(FUNCTIONS), 50)
        for asked, code in FUNCTIONS:
            values = {"f": "rule", "x": "given", "a": 3, "b": 7}
            asked.format(**values)
            compile(code.format(**values), "function", "exec")
        scope: dict = {}
        exec(dict(FUNCTIONS)["return it, but at least {a} and at most {b}"].format(f="rule", x="given", a=3, b=7), scope)
        self.assertEqual([scope["rule"](value) for value in (1, 5, 9)], [3, 5, 7])

    def test_items_are_functions_of_seed_and_number(self):
        items = make_items(20, 7)
        self.assertEqual(make_items(10, 7), items[:10])
        self.assertEqual([item.task for item in items[:5]], list(TASKS))
        self.assertFalse({item.question for item in items} & {item.question for item in make_items(20, 8)})


class Experiment(unittest.TestCase):
    def test_every_arm_has_a_configuration(self):
        for arm in ARMS:
            config = tomllib.loads(toml_text(training_config(SMOLLM2, arm, pathlib.Path("out"), pathlib.Path("data"), "cpu", 1)))
            self.assertEqual("diffusion" in config, arm != "ar")
        self.assertEqual(config["diffusion"]["canvas_tokens"], 512)

    def test_losses_fall(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out"
            command = [sys.executable, ROOT / "experiments/block-diffusion/run.py", "--perpend", PROGRAM, "--out", out]
            command += ["--scale", "tiny", "--arms", "block,context-ar-grown,full", "--device", "cpu"]
            run = subprocess.run(command, capture_output=True, text=True, timeout=300)
            self.assertEqual(run.returncode, 0, run.stderr)
            results = json.loads((out / "results.json").read_text())
            self.assertEqual(len(results), 3)
            for result in results:
                for loss, value in result["losses"].items():
                    self.assertLess(value, 0.85 * result["first_losses"].get(loss, math.log(BYTE_VOCABULARY)), (result["arm"], loss))
            self.assertEqual(list(results[1]["first_losses"]), ["next_token"])  # blocks of one token
            self.assertIn("| full |", (out / "table.md").read_text())


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
