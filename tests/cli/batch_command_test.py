"""`perpend generate --batch` with tiny random models: answers, wrong lines, an interrupt. batch_command_test.py PROGRAM"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from diffusion_command_test import EXACT, write_models
from program import PROGRAM, environment, run

REQUESTS = [
    {"id": "words", "prompt": "one two", "raw": True, "max_tokens": 21},
    {"prompt": "drawn", "raw": True, "max_tokens": 30, "temperature": 1, "top_p": 0.9, "seed": 5},
    {"id": 77, "prompt": "a message", "max_tokens": 9, "top_k": 4, "temperature": 1.5, "min_p": 0.01, "seed": 6},
    {"prompt": "x" * 150, "raw": True, "max_tokens": 12, "stop": ["e", "q"]},
]
MEASURED = ("_ms", "_per_s", "peak_bytes")  # what differs from run to run


def arguments_of(request: dict) -> list[object]:
    """The same request to `perpend generate` alone."""
    arguments = [request["prompt"]]
    for key, value in request.items():
        flag = f"--{key.replace('_', '-')}"
        if key in ("id", "prompt"):
            continue
        if value is True:
            arguments.append(flag)
            continue
        for one in value if isinstance(value, list) else [value]:
            arguments += [flag, one]
    return arguments


class BatchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        write_models(cls.folder)

    def command(self, *arguments: object, model: str) -> list[object]:
        exact = EXACT[: EXACT.index("--temperature")] if "--temperature" in arguments else EXACT
        return ["generate", *arguments, "--model", self.folder / model, *exact]

    def batch(self, lines: list[object], *arguments: object, model: str = "plain", status: int = 0):
        """The answers by id, and what was said beside them."""
        path = self.folder / "batch.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        result = run(*self.command("--batch", path, *arguments, model=model))
        self.assertEqual(result.returncode, status, result.stderr)
        answers = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len({answer["id"] for answer in answers}), len(answers))
        return {answer["id"]: answer for answer in answers}, result.stderr

    def test_answers_are_those_of_single_requests(self):
        # Of the diffusion model the first writes token by token beside the others.
        blocks = [{"block_size": 1}, {"threshold": 0.05}, {}, {"cache": "none"}]
        few = ["--batch-size", 2, "--kv-tokens", 320]
        for model, more, limits in (("plain", [{}] * 4, ([], few)), ("diffusion", blocks, (few,))):
            requests = [request | extra for request, extra in zip(REQUESTS, more)]
            alone = [
                json.loads(run(*self.command(*arguments_of(request), "--json", model=model)).stdout)
                for request in requests
            ]
            for flags in limits:
                answers, said = self.batch(requests, *flags, model=model)
                self.assertRegex(said, r"^\[4 of 4 answers, \d+ prompt tokens, \d+ new in [\d.]+ s: \d+ tokens/s")
                for number, (request, single) in enumerate(zip(requests, alone), 1):
                    answer = answers[request.get("id", number)]
                    self.assertEqual(set(answer), {"id", *single})
                    for key in (key for key in single if not key.endswith(MEASURED)):
                        with self.subTest(model=model, key=key, request=number):
                            self.assertEqual(answer[key], single[key])

    def test_ids_and_messages(self):
        request = {"id": "a", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 7}
        summary = self.folder / "summary.json"
        requests = [request, {"prompt": "hello", "max_tokens": 7}, {"prompt": 1}]
        answers, _ = self.batch(requests, "--ids", "--logprobs", 2, "--summary", summary, status=2)
        totals = json.loads(summary.read_text())
        self.assertEqual((totals["requests"], totals["answers"], totals["put_back"]), (3, 2, 0))
        for key in ("prompt_tokens", "completion_tokens"):
            self.assertEqual(totals[key], sum(answer[key] for answer in answers.values()))
        self.assertGreaterEqual(totals["forwards"], max(answer["forwards"] for answer in answers.values()))
        self.assertAlmostEqual(totals["tokens_per_s"], totals["completion_tokens"] / totals["seconds"], 3)
        self.assertEqual(len(answers["a"]["answer_ids"]), answers["a"]["completion_tokens"])
        self.assertEqual(len(answers["a"]["prompt_ids"]), answers["a"]["prompt_tokens"])
        self.assertEqual([token["id"] for token in answers["a"]["logprobs"]], answers["a"]["answer_ids"])
        self.assertEqual(answers["a"]["answer_ids"], answers[2]["answer_ids"])
        again, _ = self.batch([{"prompt_ids": answers["a"]["prompt_ids"], "max_tokens": 7}], "--ids")
        self.assertEqual(again[1]["answer_ids"], answers["a"]["answer_ids"])

    def test_standard_input(self):
        command = [PROGRAM, *map(str, self.command("--batch", "-", "--max-tokens", 5, model="plain"))]
        lines = '{"prompt": "x"}\n\n{"prompt": "y"}'
        result = subprocess.run(command, input=lines, capture_output=True, text=True, env=environment(), timeout=60)
        self.assertEqual(sorted(json.loads(line)["id"] for line in result.stdout.splitlines()), [1, 3])

    def test_wrong_lines_do_not_stop_the_others(self):
        wrong = [
            ("{", "not valid JSON"),
            ("[1]", "expected a JSON object, found array"),
            ({}, "expected one of the keys prompt, messages and prompt_ids"),
            ({"prompt": "x", "prompt_ids": [1]}, "expected one of the keys prompt, messages and prompt_ids"),
            ({"prompt": 5}, "key 'prompt': expected a text, found 5"),
            ({"prompt": "", "raw": True}, "the prompt is empty"),
            ({"prompt_ids": [1], "system": "x"}, "key 'system': expected that a prompt is given"),
            ({"prompt_ids": [1], "raw": True}, "key 'raw': expected that a prompt is given"),
            ({"prompt": "x", "temprature": 1}, "unknown key 'temprature'; known are id, layers, max_tokens"),
            ({"prompt": "x", "temperature": -1}, "temperature must be in"),
            ({"prompt": "x", "max_tokens": 2.5}, "key 'max_tokens': expected an integer from"),
            ({"prompt": "x", "max_tokens": 0}, "max-tokens must be positive (0)"),
            ({"prompt": "x", "seed": -1}, "key 'seed': expected an integer from 0"),
            ({"prompt": "x", "stop": []}, "key 'stop': expected a text or several"),
            ({"prompt": "x", "layers": "all: causl"}, "unknown word 'causl'"),
            ({"prompt": "x", "block_size": 1}, "unknown key 'block_size'"),
            ({"messages": [{"role": "user"}]}, "key 'messages': expected messages of a role and a content"),
            ({"prompt_ids": [1, 9999]}, "token id 9999 is outside the vocabulary of 264"),
            ({"prompt": "x" * 3000, "raw": True}, "do not fit the model's context"),
            ({"prompt": "x", "id": [1]}, "key 'id': expected a text or an integer"),
            ({"prompt": "x", "id": "good"}, "the id was given before"),
            ({"prompt": "x" * 400, "raw": True}, "may need the keys of"),
        ]
        lines = [{"prompt": "x", "raw": True, "id": "good", "max_tokens": 3}, *(line for line, _ in wrong)]
        answers, said = self.batch(lines, "--kv-tokens", 384, status=2)
        self.assertEqual(list(answers), ["good"])
        reports = [line for line in said.splitlines() if line.startswith("perpend: ")]
        self.assertEqual(len(reports), len(wrong))
        for number, (_, expected) in enumerate(wrong, 2):
            with self.subTest(expected):
                found = [line for line in reports if f": line {number}: " in line]
                self.assertEqual(len(found), 1, reports)
                self.assertIn(expected, found[0])

    def test_wrong_use(self):
        cases = [
            (["--batch", "/no/such/file"], "/no/such/file"),
            (["--batch", "-"], "standard input has no request"),
            (["x", "--batch", "-"], "a prompt and --batch exclude each other"),
            (["x", "--ids"], "--ids and --summary are for --batch"),
            (["--batch", "-", "--batch-size", 0], "--batch-size must be positive (0)"),
        ]
        for arguments, expected in cases:
            with self.subTest(expected):
                result = run(*self.command(*arguments, model="plain"))
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(expected, result.stderr)

    def test_an_interrupt_keeps_what_is_finished(self):
        path = self.folder / "long.jsonl"
        lines = [{"prompt": "x", "raw": True, "max_tokens": 1}] + [{"prompt": "y", "raw": True, "max_tokens": 1000}] * 40
        path.write_text("\n".join(map(json.dumps, lines)))
        command = [PROGRAM, *map(str, self.command("--batch", path, "--batch-size", 1, model="plain"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(json.loads(first)["id"], 1)
        for line in rest.splitlines():
            json.loads(line)
        self.assertRegex(said.decode(), r"\[\d+ of 41 answers, ")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
