"""Ranks documents with the program as its users do. rank_command_test.py PROGRAM MODEL"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

from png_rows import read_png
from program import MODEL, PROGRAM, environment
from terminal import Terminal

QUERY = "play chess in the terminal"
DOCUMENTS = [
    {"id": "sail", "text": "A simulator of sailing boats with wind and waves."},
    {"id": "chess", "title": "Chess", "text": "Plays chess against you in the terminal, with an opening book."},
    {"id": 3, "text": "Draws maps of old cities."},
    {"id": "bread", "text": "Recipes for bread and a timer for the oven."},
]
APT = """#!/bin/sh
case "$*" in
  *Acquire::Languages=en*" update") ;;
  *) echo "E: unexpected $*"; exit 100 ;;
esac
for argument; do
  case "$argument" in Dir::State::Lists=*) lists=${argument#*=} ;; esac
done
cat >"$lists/x_Packages" <<'END'
Package: gnuchess
Description: board game
Description-md5: 1
Section: games

Package: bread
Description: recipes
Description-md5: 2
END
cat >"$lists/x_Translation-en" <<'END'
Package: gnuchess
Description-md5: 1
Description-en: board game
 Play chess against the computer.

Package: bread
Description-md5: 2
Description-en: recipes
 How to bake bread. Nothing to play with.
END
"""


class RankCommand(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_rank(self, *arguments: object, stdin: str = "", query: str = QUERY, **variables: str):
        return subprocess.run(
            [PROGRAM, "rank", "--query", query, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment(**variables),
            cwd=self.folder,
            timeout=120,
        )

    def lines(self, documents: list = DOCUMENTS) -> str:
        return "".join(json.dumps(document) + "\n" for document in documents)

    def results(self, *arguments: object, **more: str) -> list[dict]:
        result = self.run_rank(*arguments, "--json", **more)
        self.assertEqual(result.returncode, 0, result)
        self.assertEqual(result.stdout.count("\n"), 1)
        output = json.loads(result.stdout)
        self.assertEqual(list(output), ["results"])
        return output["results"]

    def test_results_are_ordered_and_do_not_depend_on_the_list(self):
        results = self.results("--docs", "-", stdin=self.lines())
        self.assertEqual({result["id"] for result in results}, {"sail", "chess", "3", "bread"})
        scores = [result["score"] for result in results]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertAlmostEqual(sum(scores), 1, places=5)
        self.assertEqual(self.results("--docs", "-", stdin=self.lines(DOCUMENTS[::-1])), results)
        self.assertEqual(self.results("--docs", "-", "--top", 2, stdin=self.lines()), results[:2])
        self.assertNotEqual(self.results("--docs", "-", "--query-last", stdin=self.lines()), results)

    def test_a_folder_and_a_first_stage(self):
        for document in DOCUMENTS:
            (self.folder / f"{document['id']}.txt").write_text(document["text"])
        results = self.results("--docs", self.folder, "--shortlist", 1)
        self.assertEqual([result["id"] for result in results], ["chess.txt"])
        result = self.run_rank("--docs", self.folder, "--shortlist", 1, query="zebra")
        self.assertEqual((result.returncode, result.stderr), (2, "perpend: rank: no document has a word of the query\n"))

    def test_explain_shows_tokens_and_draws_them(self):
        (self.folder / "docs.jsonl").write_text(self.lines())
        result = self.run_rank("--docs", "docs.jsonl", "--explain", "--top", 2)
        self.assertEqual(result.returncode, 0, result)
        lines = result.stdout.splitlines()
        self.assertEqual(len(lines), 4)
        self.assertRegex(lines[1], r"^ +'.+' \d+\.\d %, ")
        rows = read_png((self.folder / "rank.png").read_bytes())
        self.assertEqual(len(rows), 2 * 14)
        result = self.run_rank("--docs", "docs.jsonl", "--explain", "--picture", "heat.svg")
        self.assertEqual(result.returncode, 0, result)
        root = xml.etree.ElementTree.parse(self.folder / "heat.svg").getroot()
        self.assertGreater(len(root), 60)
        result = self.run_rank("--docs", "docs.jsonl", "--explain", "--picture", "heat.gif")
        self.assertEqual(result.returncode, 2)

    def test_a_terminal_gets_colours(self):
        path = self.folder / "docs.jsonl"
        path.write_text(self.lines())
        picture = str(self.folder / "heat.png")
        arguments = [PROGRAM, "rank", "--query", QUERY, "--docs", str(path), "--explain", "--picture", picture]
        with Terminal(arguments, environment()) as terminal:
            terminal.expect(r"\x1b\[48;2;255;\d+;\d+;38;5;16m")
            self.assertEqual(terminal.close(), 0)

    def test_wrong_lists_give_one_error(self):
        path = self.folder / "docs.jsonl"
        long = {"id": "long", "text": "word " * 3000}
        cases = [
            (self.lines() + '{"id": ', "docs.jsonl: line 5: not valid JSON"),
            ("[]\n", "docs.jsonl: line 1: expected a JSON object"),
            (self.lines(DOCUMENTS * 2), "docs.jsonl: line 5: the id 'sail' was given before, in line 1"),
            ("", "docs.jsonl has no document"),
            (self.lines([*DOCUMENTS, long]), "document 'long' has 30"),
        ]
        for text, expected in cases:
            with self.subTest(expected):
                path.write_text(text)
                result = self.run_rank("--docs", "docs.jsonl")
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(expected, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1)
        cut = self.run_rank("--docs", "docs.jsonl", "--cut")
        self.assertEqual(cut.returncode, 0)
        self.assertIn("perpend: cut to the limit of a document: long\n", cut.stderr)
        for arguments in (["--docs", "none.jsonl"], [], ["--docs", "docs.jsonl", "--limit", "-1"]):
            result = self.run_rank(*arguments)
            self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1), result)

    def test_without_a_model_it_is_the_ranker_that_comes_with_the_program(self):
        assets = pathlib.Path(__file__).parents[2] / "assets"
        files = [path for path in (assets / "debian-ranker").iterdir() if path.suffix in (".safetensors", ".json")]
        self.assertLess(sum(path.stat().st_size for path in files), 5 * 2**20)
        base = self.folder / "home/models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
        base.parent.mkdir(parents=True)
        base.symlink_to(MODEL)
        shipped = {"PERPEND_HOME": str(self.folder / "home"), "PERPEND_MODEL": ""}
        results = self.results("--docs", "-", stdin=self.lines(), **shipped)
        self.assertEqual(results[0]["id"], "chess")
        self.assertGreater(results[0]["score"], 0.6)
        same = self.results("--docs", "-", "--adapter", assets / "debian-ranker", stdin=self.lines())
        self.assertEqual(same, results)
        self.assertNotEqual(self.results("--docs", "-", stdin=self.lines()), results)

    def test_bench_times_random_models(self):
        arguments = [PROGRAM, "bench", "rank", "--shape", "smollm2-135m", "--device", "cpu", "--tokens", "16"]
        arguments += ["--docs", "1,2,3", "--mean", "9", "--causal", "--block", "--decode", "1"]
        arguments += ["--reps", "1", "--warm-ups", "0", "--json"]
        result = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=120)
        self.assertEqual(result.returncode, 0, result)
        *times, line = map(json.loads, result.stdout.splitlines())
        self.assertEqual([each["docs"] for each in times], [1, 2, 3])
        one, two, three = times
        self.assertGreater(three["rank_flops"], one["rank_flops"])
        self.assertAlmostEqual(one["causal_over_rank"], one["causal_ms"] / one["rank_ms"], places=9)
        self.assertAlmostEqual(one["block_ms"], one["block_prefill_ms"] + one["block_decode_ms"], places=6)
        slope = (three["rank_ms"] - one["rank_ms"]) / 2
        mean = (one["rank_ms"] + two["rank_ms"] + three["rank_ms"]) / 3
        self.assertAlmostEqual(line["fit"]["ms_per_document"], slope, places=6)
        self.assertAlmostEqual(line["fit"]["ms"], mean - 2 * slope, places=6)
        arguments[arguments.index("1,2,3")] = "3,x"
        wrong = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=60)
        self.assertEqual((wrong.returncode, wrong.stderr.count("\n")), (2, 1))
        self.assertIn("expected numbers from 1 to 4096, found 'x'", wrong.stderr)

    def test_debian_is_fetched_once(self):
        tools, home = self.folder / "bin", self.folder / "home"
        tools.mkdir()
        (tools / "apt-get").write_text(APT)
        (tools / "apt-get").chmod(0o755)
        more = {"PERPEND_HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
        first = self.run_rank("--docs", "debian", **more)
        self.assertEqual(first.returncode, 0, first)
        self.assertIn("fetching", first.stderr)
        self.assertRegex(first.stdout, r"gnuchess +board game\n")
        self.assertIn("bread", first.stdout)
        (tools / "apt-get").write_text("#!/bin/sh\nexit 1\n")
        again = self.run_rank("--docs", "debian", **more)
        self.assertEqual((again.returncode, again.stdout), (0, first.stdout))
        self.assertNotIn("fetching", again.stderr)

    def test_a_failed_fetch_is_one_error(self):
        tools = self.folder / "bin"
        tools.mkdir()
        (tools / "apt-get").write_text("#!/bin/sh\necho 'W: slow'\necho 'E: no network'\nexit 100\n")
        (tools / "apt-get").chmod(0o755)
        more = {"PERPEND_HOME": str(self.folder / "home"), "PATH": f"{tools}:{os.environ['PATH']}"}
        result = self.run_rank("--docs", "debian", **more)
        self.assertEqual(result.returncode, 2)
        self.assertIn("debian: apt-get update failed: E: no network", result.stderr)
        self.assertFalse((self.folder / "home/debian/packages.jsonl").exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
