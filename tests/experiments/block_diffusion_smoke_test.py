"""Runs experiments/block-diffusion at its smallest: questions have the right answers, and every loss falls. block_diffusion_smoke_test.py PROGRAM"""

import dataclasses
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
from distil import END, good_answers, read_distilled, write_distilled
from functions import FUNCTIONS
from prompts import STYLES, make_prompts, open_prompts, read_questions, topics
from protocol import ARMS, BYTE_VOCABULARY, SMOLLM2, Data, messages_of, prompt_of, training_config, with_shots
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


class Distilled(unittest.TestCase):
    def test_prompts_are_different_and_repeatable(self):
        prompts = make_prompts(1)
        self.assertEqual(len(prompts), len(STYLES) * len(topics()))
        self.assertEqual(len(set(prompts)), len(prompts))
        self.assertEqual(make_prompts(1), prompts)
        self.assertNotEqual(make_prompts(2), prompts)
        self.assertFalse(set(open_prompts(held_out=True)) & set(open_prompts(held_out=False)))
        self.assertFalse([prompt for prompt in prompts if "{" in prompt])

    def test_questions_are_read_from_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "q.jsonl"
            path.write_text('{"question": "2 + 2?", "answer": "4"}\n\n')
            self.assertEqual(read_questions(path), ["2 + 2?"])
            path.write_text('{"question": 3}\n')
            with self.assertRaisesRegex(ValueError, "q.jsonl:1: expected an object"):
                read_questions(path)

    def test_answers_are_kept_that_end_and_do_not_repeat_themselves(self):
        def line(answer, reason="stop"):
            return json.dumps({"finish_reason": reason, "prompt_ids": [7], "answer_ids": answer})

        twice, thrice = [1, 2, 3, 4] * 2 + [END], [1, 2, 3, 4] * 3 + [END]
        lines = [line([5, 6, END]), line([5, 6]), line([5, 6], "length"), line(twice), line(thrice), line([END]), '{"error": "x"}']
        self.assertEqual(good_answers(lines), [([7], [5, 6, END])] * 2 + [([7], twice)])

    def test_the_store_gives_back_what_it_was_given(self):
        pairs = [([1, 49151], [3, 2]), ([4], [5, 6, 2])]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "d.npz"
            for stored in (pairs, []):
                self.assertEqual(write_distilled(path, stored), len(stored))
                self.assertEqual(read_distilled(path), stored)


class Experiment(unittest.TestCase):
    def test_every_arm_has_a_configuration(self):
        for arm in [*ARMS, "block-whole"]:
            config = tomllib.loads(toml_text(training_config(SMOLLM2, arm, pathlib.Path("out"), pathlib.Path("data"), "cpu", 1)))
            self.assertEqual("diffusion" in config, arm != "ar")
            self.assertEqual("lora" in config, arm != "block-whole")
            self.assertEqual(config.get("trained"), None if "lora" in config else "matrices")
        blocks = {arm: training_config(SMOLLM2, arm, *[pathlib.Path()] * 2, "cpu", 1) for arm in ("block", "block-32")}
        self.assertEqual([config["diffusion"]["block_size"] for config in blocks.values()], [16, 32])

    def test_shots_stand_before_a_question(self):
        items = make_items(4, 7)
        item, solved = with_shots(items, 2)[2]
        self.assertEqual((item, solved), (items[2], items[:2]))
        roles = [message["role"] for message in messages_of(item, solved)]
        self.assertEqual(roles, ["user", "assistant"] * 2 + ["user"])
        prompt = prompt_of(item, solved)
        self.assertEqual(prompt.count("<|im_end|>"), 1 + len(roles))
        self.assertLess(prompt.index(items[1].answer), prompt.index(item.question))

    def test_distilled_answers_are_trained_on_too(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "d.npz"
            write_distilled(path, [([1, 7], [3, 2])])
            scale = dataclasses.replace(SMOLLM2, items=2)
            data = Data(scale, pathlib.Path(folder) / "data", [path])
            lines = [json.loads(line) for line in data.train("block", 1).read_text().splitlines()]
            self.assertEqual(lines[2], {"prompt": [1, 7], "completion": [3, 2]})
            self.assertEqual(lines[0]["completion"], make_items(1, 1)[0].answer)
            self.assertNotEqual(data.train("full", 1), data.train("block", 1))

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
