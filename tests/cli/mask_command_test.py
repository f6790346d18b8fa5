"""`perpend mask show | list | explain | plan`: drawings, numbers, pictures. mask_command_test.py PROGRAM"""

import json
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

from png_rows import read_png
from program import output_of


def expected_drawing(size: int, window: int) -> str:
    """causal & window(window) of size x size pairs in 64 x 64 cells, two rows a line."""
    cell = size // 64

    def live(row: int, column: int) -> bool:
        pairs = [
            0 <= q - k < window
            for q in range(row * cell, (row + 1) * cell)
            for k in range(column * cell, (column + 1) * cell)
        ]
        return sum(pairs) >= len(pairs) / 2

    lines = ["".join(" ▀▄█"[live(r, c) + 2 * live(r + 1, c)] for c in range(64)) for r in range(0, 64, 2)]
    return "".join(line + "\n" for line in lines)


class MaskShow(unittest.TestCase):
    TEXT = "causal & window(64)"

    def test_drawing_and_numbers(self):
        text = output_of("mask", "show", self.TEXT, "--q", 256)
        self.assertTrue(text.startswith(expected_drawing(256, 64)), text)
        live = sum(min(q + 1, 64) for q in range(256))
        self.assertIn(f"{live} of 65536 pairs", text)
        self.assertIn("256 queries x 256 keys", text)

    def test_keys_and_offset(self):
        text = output_of("mask", "show", "all", "--q", 128, "--k", 256)
        self.assertEqual(text.splitlines()[:16], ["█" * 64] * 16)
        self.assertIn("128 queries x 256 keys", text)
        text = output_of("mask", "show", "causal", "--q", 2, "--q-offset", 6)
        self.assertIn("15 of 16 pairs", text)

    def test_labels(self):
        text = output_of("mask", "show", "causal & same(doc)", "--q", 8, "--labels", "doc = segments(3, 5)")
        self.assertIn("21 of 64 pairs", text)

    def test_named_masks(self):
        self.assertIn("block_diffusion(n, b)\n", output_of("mask", "list"))
        masks = [json.loads(line) for line in output_of("mask", "list", "--json").splitlines()]
        self.assertIn("NBDiff, section 2.1", [mask["paper"] for mask in masks if mask["name"] == "context_causal"])
        text = output_of("mask", "explain", "blockrank(doc, 3)")
        self.assertTrue(text.startswith("causal & (same(doc) | k_in(doc, 0) | q_in(doc, 3))\n"), text)
        self.assertIn("To be bound", text)

    def test_plan(self):
        text = output_of("mask", "plan", self.TEXT, "--q", 4096, "--heads", 8, "--kv-heads", 2)
        live = 8 * sum(min(q + 1, 64) for q in range(4096))
        self.assertIn(f"{live} of {8 * 4096**2} pairs", text)
        self.assertIn("chosen", text)
        plan = json.loads(output_of("mask", "plan", "same(doc)", "--labels", "doc = segments(100*40)", "--q", 4000,
                                    "--device", "cpu", "--columns", "--json"))
        self.assertEqual(plan["live_pairs"], 40 * 100**2)
        self.assertGreaterEqual(plan["computed_pairs"], plan["live_pairs"])
        self.assertEqual({key: plan["candidates"][0][key] for key in plan["plan"]}, plan["plan"])
        lists = output_of("mask", "plan", "causal", "--q", 8, "--lists")
        self.assertIn("item 0 heads 0-0 rows 0-7: 0~0", lists)

    def test_pictures(self):
        with tempfile.TemporaryDirectory() as name:
            png, svg = pathlib.Path(name) / "mask.png", pathlib.Path(name) / "mask.svg"
            output_of("mask", "show", self.TEXT, "--q", 256, "--png", png, "--svg", svg)
            rows = read_png(png.read_bytes())
            root = xml.etree.ElementTree.parse(svg).getroot()
        self.assertEqual((len(rows), len(rows[0])), (1024, 3 * 1024))

        def pixel(q: int, k: int) -> int:
            return sum(rows[4 * q + 2][3 * (4 * k + 2) :][:3])

        for q, k in [(5, 3), (100, 100), (100, 37), (255, 192)]:
            self.assertLess(pixel(q, k), 450, (q, k))
        for q, k in [(5, 8), (100, 35), (255, 190), (0, 200)]:
            self.assertGreater(pixel(q, k), 600, (q, k))
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        # The ground, four tiles on the diagonal and three beside it.
        self.assertEqual(len([e for e in root.iter() if e.tag.endswith("rect")]), 1 + 4 + 3)


unittest.main(argv=sys.argv[:1])
