"""`perpend verify` as its users run it. attention_commands_test.py PROGRAM"""

import json
import os
import subprocess
import sys
import unittest

PROGRAM = sys.argv[1]


def run(*arguments: object) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPEND_")}
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=kept, timeout=300)


def lines_of(*arguments: object) -> list[dict]:
    result = run(*arguments)
    assert result.returncode == 0, (arguments, result)
    return [json.loads(line) for line in result.stdout.splitlines()]


class Verify(unittest.TestCase):
    def test_a_table_and_a_verdict(self):
        result = run("verify", "causal & (sink(3) | window(20))", "--q", 90, "--heads", 4, "--kv-heads", 2)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout.splitlines()[-1], "all hold")
        for word in ("cpu scalar", "bf16", "f16", "f32", "lse", "row plan", "column plan"):
            self.assertIn(word, result.stdout)

    def test_json_says_the_same(self):
        (result,) = lines_of("verify", "causal", "--q", 33, "--k", 50, "--q-offset", 17, "--head-dim", 40, "--json")
        self.assertTrue(result["holds"])
        self.assertEqual((result["row_plan"], result["column_plan"]), ("", ""))
        self.assertEqual((result["q"], result["k"], result["q_offset"], result["head_dim"]), (33, 50, 17, 40))
        for row in result["results"]:
            self.assertTrue(row["holds"] and row["bits_equal"], row)
            self.assertLessEqual(row["error"], row["tolerance"])
        self.assertGreaterEqual({row["dtype"] for row in result["results"]}, {"f32", "bf16", "f16"})

    def test_names_are_bound(self):
        arguments = ["verify", "causal & same(doc)", "--q", 60, "--heads", 2]
        self.assertEqual(run(*arguments, "--bind", "doc = segments(16*3, 12)").returncode, 0)
        unbound = run(*arguments)
        self.assertEqual(unbound.returncode, 2)
        self.assertIn("doc", unbound.stderr)

    def test_what_can_not_be_is_refused(self):
        for arguments, word in [
            (["causal", "--q", 0], "--q"),
            (["causal", "--q", 8, "--heads", 3, "--kv-heads", 2], "--kv-heads"),
            (["causal", "--q", 8, "--head-dim", 257], "--head-dim"),
            (["causl", "--q", 8], "column 1"),
            (["causal", "--q", 1 << 17], "--q-offset"),
        ]:
            result = run("verify", *arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertIn(word, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
