"""perpend.attention() on CUDA tensors: values and gradients against float64, in every layout; refusals."""

import random
import unittest

import torch
from torch.nn.attention.flex_attention import create_block_mask

import cuda_case
import perpend
import reference
from campaign import num_trials
from cuda_case import CudaCase, operands, visible

MASKS = [
    "all",
    "causal",
    "none",
    "causal & (sink(4) | window(100))",
    "window(33, 20)",
    "window(7) & ~window(3)",  # the first rows see nothing
    "upto(block(32))",
    "same(block(90))",
    "causal & (near(64, 2) | every(64, 3))",
    "heads(0-1: causal; rest: window(40, 40))",
    "block_diffusion(150, 32)",
]


class CudaOperatorTest(CudaCase):
    def test_masks(self):
        for mask in MASKS:
            with self.subTest(mask=mask):
                self.check(*operands((300, 300)), mask, visible(mask, (300, 300), (4, 2)))

    def test_head_dims_and_dtypes(self):
        mask = "causal & window(120)"
        for dtype in (torch.bfloat16, torch.float16):
            for dim in (1, 16, 32, 40, 64, 80, 96, 128, 192, 256):
                with self.subTest(dtype=dtype, dim=dim):
                    self.check(*operands((200, 200), dim=dim, dtype=dtype), mask, visible(mask, (200, 200), (4, 2)))

    def test_head_ratios(self):
        for heads in [(1, 1), (8, 1), (6, 2), (5, 5), (16, 4)]:
            with self.subTest(heads=heads):
                self.check(*operands((150, 150), heads), "causal", visible("causal", (150, 150), heads))

    def test_lengths_and_offsets(self):
        for q_len, kv_len, q_offset in [(1, 1, 0), (1, 900, 899), (5, 90, 40), (300, 5, 0), (64, 128, 64), (129, 257, 128)]:
            with self.subTest(q_len=q_len, kv_len=kv_len, q_offset=q_offset):
                pairs = visible("causal & window(65)", (q_len, kv_len), (4, 2), q_offset)
                q, k, v = operands((q_len, kv_len))
                self.check(q, k, v, "causal & window(65)", pairs, q_offset=q_offset)

    def test_any_strides(self):
        pairs = visible("causal", (130, 130), (4, 2))
        tokens = torch.randn(2, 130, 8, 64, device="cuda", dtype=torch.bfloat16)  # q, k and v of one projection
        q, k, v = (x.detach().requires_grad_() for x in tokens.transpose(1, 2).split([4, 2, 2], 1))
        self.check(q, k, v, "causal", pairs)
        self.assertTrue(perpend.attention(q, k, v, "causal").transpose(1, 2).is_contiguous())
        q, k, v = operands((130, 130), dim=128)
        self.check(q[..., ::2], k[..., ::2], v[..., ::2], "causal", pairs)
        q, k, v = operands((130, 130), dim=67)
        self.check(q[..., 1:65], k[..., 2:66], v[..., 3:67], "causal", pairs)  # rows at odd addresses
        q, k, v = operands((130, 130), heads=(4, 1))
        self.check(q, k.expand(-1, 2, -1, -1), v.expand(-1, 2, -1, -1), "causal", pairs)
        q, k, v = operands((130, 130))
        self.check(q, k[:1].expand(2, -1, -1, -1), v[:1].expand(2, -1, -1, -1), "causal", pairs)
        self.check(*(x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (q, k, v)), "causal", pairs)

    def test_score_changes(self):
        q, k, v = operands((150, 150))
        pairs = visible("causal", (150, 150), (4, 2))
        slopes = torch.rand(8, device="cuda")
        self.check(q, k, v, "causal", pairs, scale=0.3)
        self.check(q, k, v, "causal", pairs, soft_cap=2.0)
        self.check(q, k, v, "causal", pairs, alibi_slopes=slopes[:4])
        self.check(q, k, v, "causal", pairs, alibi_slopes=slopes[::2], soft_cap=5.0)
        self.check(q, k, v, "causal", pairs, scale=-0.1)

    def test_ragged(self):
        lengths = [1, 0, 64, 37, 300]
        indptr = torch.tensor([0, *lengths]).cumsum(0)
        generator = torch.Generator("cuda").manual_seed(0)
        q, k, v, d_o = (
            torch.randn(int(indptr[-1]), heads, 64, device="cuda", generator=generator).bfloat16().requires_grad_()
            for heads in (4, 2, 2, 4)
        )
        results = []
        for given in (indptr, indptr.int(), indptr.cuda()):
            o, lse = perpend.attention(q, k, v, "causal", q_indptr=given, kv_indptr=given, return_lse=True)
            results.append((o, lse, *torch.autograd.grad(o, (q, k, v), d_o)))
        for other in results[1:]:
            self.assertTrue(all(torch.equal(x, y) for x, y in zip(results[0], other)))
        for begin, end in zip(indptr[:-1].tolist(), indptr[1:].tolist()):
            part = [x[begin:end].transpose(0, 1)[None] for x in (q, k, v)]
            pairs = torch.ones(end - begin, end - begin, dtype=torch.bool, device="cuda").tril()
            o, lse = reference.attention(*part, pairs)
            gradients = torch.autograd.grad(o, part, d_o[begin:end].transpose(0, 1)[None].double())
            self.assertLess(cuda_case.error(results[0][0][begin:end], o[0].transpose(0, 1)), 5e-3)
            self.assertLess(cuda_case.error(results[0][1][:, begin:end], lse[0]), 2e-5)
            for found, expected in zip(results[0][2:], gradients):
                self.assertLess(cuda_case.error(found[begin:end], expected[0].transpose(0, 1)), 1e-2)

    def test_labels_and_tiles_on_either_side(self):
        q, k, v = operands((300, 300))
        documents = torch.sort(torch.randint(0, 5, (2, 300)), 1).values
        pairs = (documents[:, :, None] == documents[:, None]).tril()[:, None].cuda()
        for labels in (documents, documents.cuda()):
            self.check(q, k, v, "causal & same(doc)", pairs, labels={"doc": labels})
        blocks = torch.rand(5, 5) < 0.5
        pairs = blocks.repeat_interleave(64, 0).repeat_interleave(64, 1)[:300, :300].cuda()
        for given in (blocks, blocks.cuda()):
            self.check(q, k, v, "tiles(map)", pairs, tiles={"map": perpend.TileMap.from_blocks(given, 64)})
        on_gpu = perpend.TileMap.from_blocks(blocks, 64)
        on_gpu = perpend.TileMap(64, 64, on_gpu.num_columns, *(array.cuda() for array in on_gpu.arrays()))
        self.check(q, k, v, "tiles(map)", pairs, tiles={"map": on_gpu})

    def test_from_flex(self):
        block_mask = create_block_mask(lambda b, h, q, k: (q >= k) & (q - k < 70), None, None, 300, 300, device="cuda")
        self.check(*operands((300, 300)), perpend.from_flex(block_mask), visible("causal & window(70)", (300, 300), (4, 2)))

    def test_masks_and_offsets_by_sequence(self):
        q, k, v = operands((40, 300))
        masks, offsets = ["causal", "window(50, 5)"], [260, 100]
        pairs = [visible(mask, (40, 300), (4, 2), offset) for mask, offset in zip(masks, offsets)]
        for given in (offsets, torch.tensor(offsets), torch.tensor(offsets).cuda()):
            self.check(q, k, v, masks, torch.stack(pairs), q_offset=given)

    def test_batch_mates_do_not_change_bits(self):
        q, k, v = operands((400, 400), batch=3)
        o = perpend.attention(q, k, v, "causal")
        gradients = torch.autograd.grad(o, (q, k, v), torch.ones_like(o))
        alone = [x[1:2].detach().requires_grad_() for x in (q, k, v)]
        o_alone = perpend.attention(*alone, "causal")
        gradients_alone = torch.autograd.grad(o_alone, alone, torch.ones_like(o_alone))
        self.assertTrue(torch.equal(o[1:2], o_alone))
        self.assertTrue(all(torch.equal(x[1:2], y) for x, y in zip(gradients, gradients_alone)))

    def test_nothing_to_do(self):
        for batch, q_len, kv_len in [(0, 7, 7), (2, 0, 7), (2, 7, 0), (2, 0, 0)]:
            with self.subTest(batch=batch, q_len=q_len, kv_len=kv_len):
                q, k, v = operands((q_len, kv_len), batch=batch)
                o, lse = perpend.attention(q, k, v, "causal", return_lse=True)
                gradients = torch.autograd.grad(o, (q, k, v), torch.ones_like(o))
                self.assertTrue((o == 0).all() and (lse == -torch.inf).all())
                self.assertTrue(all((x == 0).all() for x in gradients))

    def test_gradients_that_are_not_dense(self):
        q, k, v = operands((130, 130))
        o, lse = perpend.attention(q, k, v, "causal", return_lse=True)
        expected_o, expected_lse = reference.attention(q, k, v, visible("causal", (130, 130), (4, 2)))
        for found_of, expected_of in [(o, expected_o), (lse, expected_lse)]:
            found = torch.autograd.grad(found_of.sum(), (q, k), retain_graph=True)  # has no strides of its own
            expected = torch.autograd.grad(expected_of.sum(), (q, k), retain_graph=True)
            for x, y in zip(found, expected):
                self.assertLess(cuda_case.error(x, y), 1e-2)

    def test_autocast(self):
        q, k, v = (x.float() for x in operands((130, 130)))
        with torch.autocast("cuda", dtype=torch.bfloat16):
            o = perpend.attention(q, k, v, "causal")
        self.assertTrue(torch.equal(o, perpend.attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), "causal")))

    def test_random_cases(self):
        for case in range(num_trials(60)):
            generator = random.Random(case)
            kv_heads = generator.choice([1, 2, 3])
            heads = (kv_heads * generator.choice([1, 2, 3, 8]), kv_heads)
            q_len, kv_len = generator.randint(1, 400), generator.randint(1, 400)
            parts = [
                f"window({generator.randint(1, 200)}, {generator.randint(1, 200)})",
                f"sink({generator.randint(1, 50)})",
                f"same(block({generator.randint(1, 150)}))",
                f"upto(block({generator.randint(1, 90)}))",
                f"every({generator.randint(1, 70)}, {generator.randint(1, 4)}, {generator.randint(0, 2)})",
                "causal",
            ]
            a, b, c = generator.sample(parts, 3)
            mask = f"{a} {generator.choice('&|')} {generator.choice(['', '~'])}{b} | {c} & {a}"
            options = {"q_offset": generator.choice([0, generator.randint(0, 300)])}
            if generator.random() < 0.3:
                options["soft_cap"] = 3.0
            dtype = generator.choice([torch.bfloat16, torch.float16])
            dim = generator.choice([32, 64, 64, 72, 128, 128, 160, 256])
            with self.subTest(case=case, mask=mask, heads=heads, lengths=(q_len, kv_len), dim=dim, dtype=dtype, **options):
                pairs = visible(mask, (q_len, kv_len), heads, options["q_offset"])
                q, k, v = operands((q_len, kv_len), heads, dim, dtype)
                self.check(q, k, v, mask, pairs, **options)

    def test_refusals(self):
        q, k, v = operands((70, 70))
        wide = operands((70, 70), dim=264)
        cases = [
            ("q f32, k and v f32, head_dim 64 is not built for cuda", [x.float() for x in (q, k, v)], {}),
            ("q f64", [x.double() for x in (q, k, v)], {}),
            ("head_dim 264", wide, {}),
            ("q bf16, k and v f16", (q, k.half(), v.half()), {}),
            ("k is on cpu, q on cuda:0", (q, k.cpu(), v), {}),
            ("k is on cuda:0, q on cpu", (q.cpu(), k, v), {}),
            ("alibi_slopes is on cpu", (q, k, v), {"alibi_slopes": torch.ones(4)}),
        ]
        for text, arguments, options in cases:
            with self.subTest(text), self.assertRaisesRegex(RuntimeError, text):
                perpend.attention(*arguments, "causal", **options)


if __name__ == "__main__":
    cuda_case.main()
