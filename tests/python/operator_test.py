"""perpend.attention() forward: against float64, in every layout, and its refusals."""

import itertools
import threading
import time
import unittest

import torch

import perpend
import reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def operands(batch=2, heads=4, kv_heads=2, q_len=70, kv_len=70, dim=32, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    q = torch.randn(batch, heads, q_len, dim, dtype=dtype)
    k = torch.randn(batch, kv_heads, kv_len, dim, dtype=dtype)
    return q, k, torch.randn(batch, kv_heads, kv_len, dim, dtype=dtype)


class OperatorTest(unittest.TestCase):
    def check(self, q, k, v, mask, visible, **options):
        o, lse = perpend.attention(q, k, v, mask, return_lse=True, **options)
        for ours in ("labels", "tiles"):
            options.pop(ours, None)
        expected_o, expected_lse = reference.attention(q, k, v, visible, **options)
        tolerance = reference.TOLERANCE[q.dtype][0]
        self.assertEqual((o.dtype, o.shape), (q.dtype, q.shape))
        self.assertLess(reference.relative_error(o, expected_o), tolerance)
        self.assertLess(reference.relative_error(lse, expected_lse), tolerance)

    def test_dtypes(self):
        mask = perpend.Mask("causal & (sink(3) | window(20))")
        for dtype in DTYPES:
            with self.subTest(dtype=dtype):
                q, k, v = operands(dtype=dtype)
                self.check(q, k, v, mask, mask.dense(70))

    def test_any_strides(self):
        mask = perpend.causal
        tokens = torch.randn(2, 70, 8, 32)  # q, k and v of one projection
        q, k, v = tokens.transpose(1, 2).split([4, 2, 2], 1)
        self.check(q, k, v, mask, mask.dense(70))
        o = perpend.attention(q, k, v, mask)
        self.assertTrue(o.transpose(1, 2).is_contiguous())  # no copy to get the tokens together again
        q, k, v = operands()
        self.check(q[..., ::2], k[..., ::2], v[..., ::2], mask, mask.dense(70))
        one_head = k[:, :1].expand(-1, 4, -1, -1)
        self.check(q, one_head, one_head, mask, mask.dense(70))
        backwards = [x.flip(2).transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)]
        self.check(*backwards, mask, mask.dense(70))

    def test_o_lies_as_empty_like_lays_it(self):
        for dims in [(1, 1, 1, 1), (2, 1, 3, 8), (1, 2, 1, 8), (2, 2, 3, 8), (2, 3, 1, 1), (3, 2, 2, 1)]:
            for order, gap in itertools.product(itertools.permutations(range(4)), (0, 1)):
                lying = torch.randn([dims[axis] + gap for axis in order])
                q = lying[tuple(slice(dims[axis]) for axis in order)].permute([order.index(axis) for axis in range(4)])
                if q.stride(-1) == 1:
                    self.assertEqual(perpend.attention(q, q, q, "causal").stride(), torch.empty_like(q).stride())

    def test_lengths_and_offset(self):
        for q_len, kv_len, q_offset in [(1, 90, 89), (5, 90, 40), (90, 5, 0), (64, 128, 64), (1, 1, 0)]:
            with self.subTest(q_len=q_len, kv_len=kv_len, q_offset=q_offset):
                q, k, v = operands(q_len=q_len, kv_len=kv_len)
                mask = perpend.Mask("causal & window(33)")
                self.check(q, k, v, mask, mask.dense(q_len, kv_len, q_offset=q_offset), q_offset=q_offset)

    def test_offset_by_sequence(self):
        q, k, v = operands(q_len=1)
        o = perpend.attention(q, k, v, "causal", q_offset=[10, 60])
        for s, q_offset in enumerate([10, 60]):
            alone = perpend.attention(q[s : s + 1], k[s : s + 1], v[s : s + 1], "causal", q_offset=q_offset)
            self.assertTrue(torch.equal(o[s : s + 1], alone))

    def test_ragged(self):
        lengths = [1, 0, 64, 37, 130]
        indptr = torch.tensor([0, *lengths]).cumsum(0)  # int64, as cumsum gives it
        torch.manual_seed(0)
        q = torch.randn(int(indptr[-1]), 4, 32)
        k, v = torch.randn(2, int(indptr[-1]), 2, 32)
        o, lse = perpend.attention(q, k, v, "causal", q_indptr=indptr, kv_indptr=indptr, return_lse=True)
        self.assertEqual(lse.shape, (4, int(indptr[-1])))
        for begin, end in zip(indptr[:-1].tolist(), indptr[1:].tolist()):
            alone = [x[begin:end].transpose(0, 1)[None] for x in (q, k, v)]
            o_alone, lse_alone = perpend.attention(*alone, "causal", return_lse=True)
            self.assertTrue(torch.equal(o[begin:end], o_alone[0].transpose(0, 1)))
            self.assertTrue(torch.equal(lse[:, begin:end], lse_alone[0]))

    def test_score_changes(self):
        q, k, v = operands()
        visible = perpend.causal.dense(70)
        self.check(q, k, v, "causal", visible, scale=0.3)
        self.check(q, k, v, "causal", visible, soft_cap=2.0)
        self.check(q, k, v, "causal", visible, alibi_slopes=torch.tensor([0.5, 0.25, 0.125, 0.0]))

    def test_masks_by_sequence(self):
        q, k, v = operands()
        masks = ["causal", perpend.window(5, 5)]
        visible = torch.stack([perpend.Mask(str(mask)).dense(70) for mask in masks])[:, None]
        self.check(q, k, v, masks, visible)

    def test_masks_by_head(self):
        q, k, v = operands()
        mask = perpend.heads({(0, 1): perpend.causal, 3: "window(9)"}, rest="all")
        visible = torch.stack([mask.dense(70, q_head=head, kv_head=head // 2) for head in range(4)])
        self.check(q, k, v, mask, visible)

    def test_label_arrays(self):
        q, k, v = operands()
        documents = torch.sort(torch.randint(0, 5, (2, 70)), 1).values
        visible = (documents[:, :, None] == documents[:, None]) & perpend.causal.dense(70)
        for labels in (documents, documents.int()):
            self.check(q, k, v, "causal & same(doc)", visible[:, None], labels={"doc": labels})
        self.check(q, k, v, "causal & same(doc)", visible[:1, None], labels={"doc": documents[0]})
        bound = perpend.Mask("causal & same(doc)").bind(doc=documents)
        self.check(q, k, v, bound, visible[:, None])

    def test_label_arrays_of_ragged_batches(self):
        q, k, v = operands(batch=1, q_len=70)
        tokens = [x[0].transpose(0, 1) for x in (q, k, v)]
        indptr = torch.tensor([0, 20, 70])
        labels = torch.cat([torch.arange(20) // 7, torch.arange(50) // 13])
        ragged = perpend.attention(*tokens, "same(doc)", labels={"doc": labels}, q_indptr=indptr, kv_indptr=indptr)
        whole = torch.cat([labels[:20], labels[20:] + 100])
        o = perpend.attention(q, k, v, "same(doc)", labels={"doc": whole})
        self.assertLess(reference.relative_error(ragged.transpose(0, 1)[None], o), 1e-6)

    def test_an_array_changed_in_place_is_another_one(self):
        q, k, v = operands()
        labels = torch.zeros(70, dtype=torch.int64)
        first = perpend.attention(q, k, v, "same(doc)", labels={"doc": labels})
        labels[35:] = 1
        second = perpend.attention(q, k, v, "same(doc)", labels={"doc": labels})
        self.assertFalse(torch.equal(first, second))
        expected = perpend.attention(q, k, v, "same(block(35))")
        self.assertTrue(torch.equal(second, expected))

    def test_label_texts(self):
        q, k, v = operands()
        visible = (torch.arange(70) // 10)[:, None] == torch.arange(70) // 10
        self.check(q, k, v, "same(doc)", visible, labels={"doc": "segments(10*7)"})

    def test_tile_maps(self):
        q, k, v = operands()
        torch.manual_seed(1)
        blocks = torch.rand(5, 5) < 0.5
        tiles = perpend.TileMap.from_blocks(blocks, 16)
        visible = blocks.repeat_interleave(16, 0).repeat_interleave(16, 1)[:70, :70]
        self.check(q, k, v, "tiles(map)", visible, tiles={"map": tiles})

    def test_rows_without_a_key(self):
        q, k, v = operands()
        o, lse = perpend.attention(q, k, v, "sink(70) & ~window(200)", return_lse=True)
        self.assertTrue((o == 0).all() and (lse == -torch.inf).all())

    def test_nothing_to_do(self):
        for shape in [(0, 4, 7, 32), (2, 4, 0, 32)]:
            q = torch.randn(shape)
            o, lse = perpend.attention(q, q, q, "causal", return_lse=True)
            self.assertEqual((o.shape, lse.shape), (q.shape, q.shape[:3]))

    def test_bits_do_not_depend_on_threads_or_batch_mates(self):
        q, k, v = operands(batch=3, q_len=300, kv_len=300)
        threads = torch.get_num_threads()
        o = perpend.attention(q, k, v, "causal")
        try:
            torch.set_num_threads(1)
            self.assertTrue(torch.equal(o, perpend.attention(q, k, v, "causal")))
        finally:
            torch.set_num_threads(threads)
        self.assertTrue(torch.equal(o[1:2], perpend.attention(q[1:2], k[1:2], v[1:2], "causal")))

    def test_autocast(self):
        q, k, v = operands()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            o = perpend.attention(q, k.bfloat16(), v, "causal")
        self.assertEqual(o.dtype, torch.bfloat16)

    def test_python_runs_meanwhile(self):
        q, k, v = operands(batch=1, heads=8, kv_heads=8, q_len=3000, kv_len=3000, dim=64)
        perpend.attention(q, k, v, "all")
        worker = threading.Thread(target=perpend.attention, args=(q, k, v, "all"))
        begin = time.perf_counter()
        worker.start()
        steps = 0
        while worker.is_alive():
            steps += 1
            time.sleep(0.0005)
        self.assertGreater(steps, 3, f"no step in {time.perf_counter() - begin:.3f} s")

    def test_opcheck(self):
        q, k, v = operands()
        tokens = torch.randn(70, 4, 32)
        indptr = torch.tensor([0, 20, 70], dtype=torch.int32)
        op = torch.ops.perpend.attention
        samples = [
            (op.default, (q, k, v, "causal"), {}),
            (op.default, (q.transpose(1, 2).contiguous().transpose(1, 2), k, v, "window(3)"), {"scale": 0.5}),
            (op.default, (q[..., ::2], k[..., ::2], v[..., ::2], "causal"), {"soft_cap": 1.0}),
            (op.default, (q, k, v, "same(doc)"), {"bindings": ["doc = block(9)"], "q_offset": [3]}),
            (op.by_values, (q, k, v, "same(doc)", None, None, None, [torch.arange(70) // 9]), {"bindings": ["doc"]}),
            (op.by_values, (tokens, tokens, tokens, "causal", None, indptr, indptr), {}),
        ]
        for overload, arguments, keywords in samples:
            torch.library.opcheck(overload, arguments, keywords)

    def test_the_operator_alone(self):
        q, k, v = operands()
        labels = torch.arange(70) // 9
        o, lse = torch.ops.perpend.attention(q, k, v, "causal")
        self.assertTrue(torch.equal(o, perpend.attention(q, k, v, "causal")))
        o, lse = torch.ops.perpend.attention(q, k, v, "same(doc)", bindings=["doc"], arrays=[labels])
        expected = perpend.attention(q, k, v, "same(doc)", labels={"doc": labels}, return_lse=True)
        self.assertTrue(torch.equal(o, expected[0]) and torch.equal(lse, expected[1]))

    def test_refusals(self):
        q, k, v = operands()
        indptr = torch.tensor([0, 70])
        shifted = {"q_indptr": indptr - 1, "kv_indptr": indptr}
        tokens = q[0].transpose(0, 1)
        cases = [
            ("unknown word 'causl', did you mean 'causal'", (q, k, v, "causl"), {}),
            ("batch of q and of k differ", (q, k[:1], v[:1], "causal"), {}),
            ("lengths of k and v differ", (q, k, v[:, :, :9], "causal"), {}),
            ("head_dim of q and k differ", (q[..., :16], k, v, "causal"), {}),
            ("multiple of those of k", (q[:, :3], k, v, "causal"), {}),
            ("q must be \\[batch, heads, length, head_dim\\]", (tokens, tokens, tokens, "causal"), {}),
            ("given together", (tokens, tokens, tokens, "causal"), {"q_indptr": indptr}),
            ("dtypes of k and v differ", (q, k, v.half(), "causal"), {}),
            ("scale must not be 0", (q, k, v, "causal"), {"scale": 0.0}),
            ("doc", (q, k, v, "same(doc)"), {}),
            ("one mask or one for each sequence", (q, k, v, ["causal"] * 3), {}),
            ("list of masks is empty", (q, k, v, []), {}),
            ("must go from 0 to its 70 tokens", (tokens, tokens, tokens), shifted),
            ("q_offset", (q, k, v, "causal"), {"q_offset": [0, 0, 0]}),
            ("enable_gqa", (q, k, v, "causal"), {"enable_gqa": False}),
            ("integers", (q, k, v, "same(doc)"), {"labels": {"doc": torch.rand(70)}}),
            ("sequence", (q, k, v, "same(doc)"), {"labels": {"doc": "segments(10*6)"}}),
        ]
        slopes = torch.ones(4, requires_grad=True)
        cases += [
            ("found Tensor", (q, k, v, torch.ones(70, 70).bool()), {}),
            ("alibi_slopes can not have a gradient", (q, k, v), {"alibi_slopes": slopes}),
            ("alibi_slopes", (q, k, v), {"alibi_slopes": torch.ones(3)}),
            ("alibi_slopes", (q, k, v), {"alibi_slopes": torch.ones(4).double()}),
        ]
        for text, arguments, options in cases:
            with self.subTest(text), self.assertRaisesRegex((ValueError, RuntimeError, TypeError), text):
                perpend.attention(*arguments, **options)


if __name__ == "__main__":
    unittest.main()
