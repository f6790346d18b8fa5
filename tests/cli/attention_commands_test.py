"""`perpend verify` and `perpend bench` as their users run them. attention_commands_test.py PROGRAM"""

import functools
import json
import sys
import unittest

import program

run = functools.partial(program.run, timeout=300)
# The fields that bench/workloads.json's other peers print too.
BENCH_FIELDS = {
    "workload", "peer", "B", "Hq", "Hkv", "S", "D", "density", "fwd_ms", "bwd_ms", "fwd_tflops_live", "bwd_tflops_live",
    "mask_s", "first_call_s", "peak_gib",
}  # fmt: skip


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
        self.assertEqual(run(*arguments, "--labels", "doc = segments(16*3, 12)").returncode, 0)
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


class Bench(unittest.TestCase):
    def test_attention_has_the_fields_of_its_peers(self):
        (line,) = lines_of("bench", "attention", "--mask", "causal & window(50)", "--tokens", 200, "--heads", 4,
                           "--kv-heads", 2, "--reps", 3)  # fmt: skip
        self.assertLessEqual(BENCH_FIELDS, set(line))
        self.assertGreater(line["fwd_tflops_live"], 0)
        self.assertEqual(line["break_even_density"], line["fraction_of_dense"])
        self.assertEqual(line["dense_would_be_faster"], line["density"] > line["break_even_density"])
        for check in line["checked"].values():
            self.assertLessEqual(check["error"], check["tolerance"])

    def test_attention_runs_standard_workloads(self):
        (line,) = lines_of("bench", "attention", "--workload", "window2d", "--reps", 1, "--dtype", "f32", "--without-dense")
        self.assertEqual((line["workload"], line["dtype"], line["S"]), ("window2d_8_side64", "f32", 4096))
        self.assertAlmostEqual(line["density"], 1 / 64)

    def test_schedule_plans_every_workload(self):
        for name in ("cpu", "gpu"):
            machine, *lines = lines_of("bench", "schedule", "--set", name, "--reps", 1)
            self.assertGreater(machine["copy_gb_s"], 0)
            self.assertEqual(len(lines), 8 if name == "cpu" else 13)
            for line in lines:
                self.assertGreater(line["plan_ms"], 0)

    def test_what_can_not_be_is_refused(self):
        for arguments, word in [
            (["attention", "--workload", "no_such"], "no_such"),
            (["attention", "--set", "tpu"], "--set"),
            (["attention", "--dtype", "int8"], "--dtype"),
            (["attention", "--mask", "causal"], "--tokens"),
            (["schedule", "--reps", 0], "--reps"),
        ]:
            result = run("bench", *arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(word, result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
