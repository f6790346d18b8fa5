#include "perpend/mask/compositions.h"

#include <array>

namespace perpend {
namespace {

constexpr std::array kCompositions = {
    Composition{
        .name = "block_diffusion",
        .parameters = "n, b",
        .text = "q_in(copy({n}), 0) & k_in(copy({n}), 0) & same(within({n}, block({b})))"
                " | q_in(copy({n}), 0) & k_in(copy({n}), 1) & before(within({n}, block({b})))"
                " | q_in(copy({n}), 1) & k_in(copy({n}), 1) & upto(within({n}, block({b})))",
        .paper = "Fast-dLLM v2, section 2.3 (mask of BD3-LM)",
        .summary = "training on n noisy, then the n clean tokens, in blocks of b",
    },
    Composition{
        .name = "context_causal",
        .parameters = "n, b",
        .text = "q_in(copy({n}), 0) & k_in(copy({n}), 0) & same(within({n}, block({b})))"
                " | q_in(copy({n}), 0) & k_in(copy({n}), 1) & before(within({n}, block({b})))"
                " | q_in(copy({n}), 1) & k_in(copy({n}), 1) & causal",
        .paper = "NBDiff, section 2.1",
        .summary = "block_diffusion with a strictly causal clean copy",
    },
    Composition{
        .name = "block_causal",
        .parameters = "b = 32",
        .text = "upto(block({b}))",
        .paper = "Fast-dLLM v2, section 2.5",
        .summary = "full attention inside a block of b tokens, causal over blocks",
    },
    Composition{
        .name = "block_decode",
        .parameters = "b, start",
        .text = "causal | q_in(copy({start}), 1) & same(block({b}, {start}))",
        .paper = "NBDiff, section 2.4",
        .summary = "decoding in blocks of b that begin where the prompt ends, at start",
    },
    Composition{
        .name = "longgen_sink",
        .parameters = "b = 64, s = 1, w = 31",
        .text = "causal & (near({b}, {w}) | sink({s * b}))",
        .paper = "LongGen, arXiv 2410.01485, variant AS",
        .summary = "s sink blocks and a window of w blocks of b tokens",
    },
    Composition{
        .name = "longgen_strided",
        .parameters = "b = 64, w = 16, r = 128, step = 0, s = 0",
        .text = "causal & (near({b}, {w}) | every({b}, {r}, {step}) | sink({s * b}))",
        .paper = "LongGen, arXiv 2410.01485, variant BS",
        .summary =
            "a window of w blocks and every r-th block, moved by step for each key/value head",
    },
    Composition{
        .name = "blockrank",
        .parameters = "doc, last",
        .text = "causal & (same({doc}) | k_in({doc}, 0) | q_in({doc}, {last}))",
        .paper = "BlockRank, arXiv 2510.05396, section 2.2",
        .summary = "documents see the instruction (0) and themselves, the query (last) sees all",
    },
    Composition{
        .name = "frames",
        .parameters = "f, h, w",
        .text = "upto(grid({f}, {h}, {w}).frame)",
        .paper = "Next-Frame Diffusion, arXiv 2506.01380, section 2.3",
        .summary = "full attention inside a frame of h x w tokens, causal over f frames",
    },
    Composition{
        .name = "rolling_frames",
        .parameters = "size, context = 32",
        .text = "upto(block({size})) & near({size}, {context})",
        .paper = "Next-Frame Diffusion, arXiv 2506.01380, section 2.3",
        .summary = "frames of size tokens that see the last context frames, their own included",
    },
    Composition{
        .name = "chunks",
        .parameters = "first, size",
        .text = "upto(block({size}, {first})) | sink({first})",
        .paper = "SANA-Video, arXiv 2509.24695, section 2.5",
        .summary = "as block_causal, with a first block of its own length",
    },
    Composition{
        .name = "swin",
        .parameters = "h, w, side, heads, shift = side / 2",
        .text = "heads(0-{heads / 2 - 1}: same(grid({h}, {w}).window({side}, {side}));"
                " rest: same(grid({h}, {w}).window({side}, {side}, {shift})))",
        .paper = "StyleSwin, section 2.4",
        .summary = "windows of side x side, moved by shift for the second half of the heads",
    },
    Composition{
        .name = "dreamvla",
        .parameters = "a = 36, d = 54, x = 3",
        .text = "table(within({a + d + x}, segments({a}, {d}, {x})), 100, 100, 110)"
                " & (same(block({a + d + x}))"
                " | upto(block({a + d + x})) & k_in(within({a + d + x}, copy({a})), 0))",
        .paper = "DreamVLA, section 2.2",
        .summary = "steps of a observed, d dream and x action tokens",
    },
    Composition{
        .name = "dreamvla_pretrain",
        .parameters = "a = 36, d = 54, x = 3, goal = 4",
        .text = "q_in(within({a + d + x}, copy({a + d})), 0) & upto(block({a + d + x}))"
                " & k_in(within({a + d + x}, copy({a})), 0)"
                " | q_in(within({a + d + x}, segments({a}, {d}, {x})), 1)"
                " & k_in(within({a + d + x}, segments(1, 1, {a + d + x - 2})), 1)"
                " & window(1, {goal * (a + d + x) + 2 - a})"
                " & ~window(1, {goal * (a + d + x) + 2 - a - d})"
                " | q_in(within({a + d + x}, copy({a + d})), 1) & same(block({a + d + x}))"
                " & k_in(within({a + d + x}, segments(1, {a + d - 1}, {x})), 1)",
        .paper = "DreamVLA, section 2.2, pre-training",
        .summary = "dreams also see the state token of goal steps ahead; actions see no text",
    },
    Composition{
        .name = "paro",
        .parameters = "map",
        .text = "tiles({map})",
        .paper = "PAROAttention, section 2.4",
        .summary = "a measured block map over reordered tokens",
    },
    Composition{
        .name = "ladir",
        .parameters = "thought",
        .text = "causal | same({thought}) & ~k_in({thought}, 0)",
        .paper = "LaDiR, section 2.4",
        .summary = "text is causal; latents of one thought (label 1, 2, ...; 0 elsewhere) see each "
                   "other",
    },
    Composition{
        .name = "ladir_train",
        .parameters = "n, part, thought",
        .text = "q_in(copy({n}), 0) & k_in(copy({n}), 0)"
                " & (causal | same({thought}) & ~k_in({thought}, 0))"
                " | q_in(copy({n}), 1) & k_in(copy({n}), 0) & before({part})"
                " | q_in(copy({n}), 1) & k_in(copy({n}), 1) & same({part})"
                " & (causal | same({thought}) & ~k_in({thought}, 0))",
        .paper = "LaDiR, section 2.7",
        .summary =
            "n clean tokens, then noisy copies of the thoughts; part is 0 in the question, b in "
            "both copies of thought b, larger in the answer",
    },
};

}  // namespace

std::span<const Composition> compositions() { return kCompositions; }

const Composition* find_composition(std::string_view name) {
  for (const Composition& composition : kCompositions) {
    if (composition.name == name) return &composition;
  }
  return nullptr;
}

}  // namespace perpend
