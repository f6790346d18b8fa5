"""perpend.Mask, the functions that build masks, pictures and plans."""

import pathlib
import pickle
import random
import tempfile
import unittest

import torch

import campaign
import perpend


def block(position, size, start=0):
    return (position - start) // size


class MaskTest(unittest.TestCase):
    def test_builders_equal_their_texts(self):
        p = perpend
        documents = p.segments("160*3", 32)
        pairs = [
            (p.all, "all"),
            (p.none, "none"),
            (p.causal, "causal"),
            (p.window(8), "window(8)"),
            (p.window(8, 2), "window(8, 2)"),
            (p.sink(4), "sink(4)"),
            (p.same(p.block(32)), "same(block(32))"),
            (p.upto(p.block(32, 5)), "upto(block(32, 5))"),
            (p.before(documents), "before(segments(160*3, 32))"),
            (p.same(p.segments_at(0, 160, 512)), "same(segments_at(0, 160, 512))"),
            (p.q_in(p.copy(64), 0), "q_in(copy(64), 0)"),
            (p.k_in("doc", 0, 2), "k_in(doc, 0, 2)"),
            (p.every(64, 16), "every(64, 16)"),
            (p.every(64, 16, 1), "every(64, 16, 1)"),
            (p.near(64, 16), "near(64, 16)"),
            (p.table(p.block(8), "110", "011", "111"), "table(block(8), 110, 011, 111)"),
            (p.tiles("map"), "tiles(map)"),
            (p.same(p.within(64, p.block(8))), "same(within(64, block(8)))"),
            (p.same(p.grid_window(16, 16, 4, 4)), "same(grid(16, 16).window(4, 4))"),
            (p.same(p.grid_window(16, 16, 4, 4, 2)), "same(grid(16, 16).window(4, 4, 2))"),
            (p.upto(p.grid_frame(3, 4, 4)), "upto(grid(3, 4, 4).frame)"),
            (p.heads({(0, 3): p.causal, 5: "sink(2)"}, rest="none"), "heads(0-3: causal; 5: sink(2); rest: none)"),
            (p.causal & (p.sink(4) | p.window(8)), "causal & (sink(4) | window(8))"),
            (~(p.causal & p.sink(4)), "~(causal & sink(4))"),
            ("causal" & p.window(3), "causal & window(3)"),
            ("causal" | p.window(3), "causal | window(3)"),
        ]
        for mask, text in pairs:
            with self.subTest(text):
                self.assertEqual(mask, p.Mask(text))
                self.assertEqual(hash(mask), hash(p.Mask(text)))
                self.assertEqual(p.Mask(str(mask)), mask)
                self.assertEqual(pickle.loads(pickle.dumps(mask)), mask)

    def test_dense_is_the_definition(self):
        n = 40
        rng = random.Random(0)
        definitions = {
            "causal": lambda q, k: k <= q,
            "window(7)": lambda q, k: q - 7 < k,
            "window(3, 5)": lambda q, k: q - 3 < k < q + 5,
            "sink(4)": lambda q, k: k < 4,
            "same(block(6))": lambda q, k: block(q, 6) == block(k, 6),
            "upto(block(6, 2))": lambda q, k: block(k, 6, 2) <= block(q, 6, 2),
            "every(4, 3)": lambda q, k: block(k, 4) % 3 == 0,
            "near(4, 2)": lambda q, k: block(q, 4) - block(k, 4) < 2,
        }
        for _ in range(campaign.num_trials(60)):
            (a, in_a), (b, in_b) = rng.sample(sorted(definitions.items()), 2)
            operator, both = rng.choice([("&", lambda x, y: x and y), ("|", lambda x, y: x or y)])
            text = f"({a}) {operator} ~({b})"
            expected = [[both(in_a(q, k), not in_b(q, k)) for k in range(n)] for q in range(n)]
            self.assertTrue(torch.equal(perpend.Mask(text).dense(n), torch.tensor(expected)), text)

    def test_equality_looks_at_what_is_bound(self):
        mask = perpend.Mask("same(doc)")
        labels = torch.arange(9) // 2
        self.assertNotEqual(mask, mask.bind(doc=labels))
        self.assertEqual(mask.bind(doc=labels), mask.bind(doc=labels.clone()))
        self.assertNotEqual(mask.bind(doc=labels), mask.bind(doc=labels + 1))
        self.assertEqual(mask.bind(doc="block(2)"), mask.bind(doc=perpend.block(2)))
        with self.assertRaisesRegex(ValueError, "two different things"):
            mask.bind(doc=labels) & perpend.Mask("upto(doc)").bind(doc=labels + 1)

    def test_masks_are_values(self):
        with self.assertRaises(AttributeError):
            perpend.causal.text = "all"
        with self.assertRaises(AttributeError):
            perpend.block(3).text = "block(4)"
        self.assertEqual(len({perpend.causal, perpend.Mask(" causal "), perpend.none}), 2)

    def test_mistakes_name_the_column(self):
        for text in ("", "causal &", "windw(3)", "window(3", "same(block())", "causal ^ sink(2)"):
            with self.subTest(text), self.assertRaisesRegex(ValueError, "column"):
                perpend.Mask(text)
        with self.assertRaisesRegex(ValueError, "doc"):
            perpend.Mask("same(doc)").dense(4)
        with self.assertRaisesRegex(ValueError, "2|pairs"):
            perpend.causal.dense(1 << 20)

    def test_pictures(self):
        mask = perpend.Mask("causal & same(block(16))")
        picture = mask.draw(64, max_pixels=256)
        self.assertTrue(picture._repr_png_().startswith(b"\x89PNG"))
        self.assertEqual(len(str(picture).splitlines()), 32)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "mask.png"
            picture.save(path)
            self.assertEqual(path.read_bytes(), picture.png)
        mask.draw(1 << 20)  # any length

    def test_plans(self):
        plan = perpend.plan("causal", 1000, num_q_heads=4, num_kv_heads=2)
        self.assertEqual(plan.live_pairs, 4 * 1000 * 1001 // 2)
        self.assertEqual(plan.total_pairs, 4 * 1000 * 1000)
        self.assertAlmostEqual(plan.density, 0.5005)
        self.assertEqual(plan.flops, 4 * 128 * plan.live_pairs)
        self.assertGreaterEqual(plan.computed_pairs, plan.live_pairs)
        self.assertIn("50.05%", str(plan))
        on_gpu = perpend.plan("causal", 1000, num_q_heads=4, num_kv_heads=2, device="cuda")
        self.assertEqual((on_gpu.live_pairs, on_gpu.q_tile, on_gpu.k_tile), (plan.live_pairs, 128, 128))
        with self.assertRaisesRegex(ValueError, "device must be cpu or cuda"):
            perpend.plan("causal", 1000, device="meta")
        million = perpend.plan("causal & (sink(128) | window(2048))", 1 << 20)
        self.assertLess(million.kv_bytes, million.kv_bytes_all / 100)
        documents = perpend.plan("causal & same(doc)", 100, labels={"doc": torch.arange(100) // 10})
        self.assertEqual(documents.live_pairs, 10 * 55)
        self.assertEqual(documents.live_pairs, perpend.plan("causal & same(block(10))", 100).live_pairs)


if __name__ == "__main__":
    unittest.main()
