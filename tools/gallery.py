#!/usr/bin/env python3
"""tools/gallery.py: makes the gallery of docs/masks.md and its pictures again.

Needs the built program (build/torch/bin/perpend) and the Python package of the same build; run it as

    PYTHONPATH=build/torch/python:SITE_PACKAGES_OF_TORCH python3 tools/gallery.py

Each named mask stands at a size that shows its shape; a name that the program lists and this file does
not show is an error, so that none is forgotten.
"""

import dataclasses
import json
import pathlib
import statistics
import subprocess

import torch

import perpend

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/masks.md"
PICTURES = ROOT / "docs/images/masks"
BEGIN, END = "<!-- gallery: made by tools/gallery.py -->", "<!-- end of the gallery -->"
PLANS = 9


@dataclasses.dataclass(frozen=True)
class Entry:
    """A named mask with arguments, and the call that it is shown at."""

    mask: str
    tokens: int
    heads: tuple[int, int] = (8, 8)
    bind: dict[str, str] = dataclasses.field(default_factory=dict)
    block_map: bool = False  # `map` stands for a made-up block map

    @property
    def name(self) -> str:
        return self.mask.partition("(")[0]

    def bound(self) -> perpend.Mask:
        names = dict(self.bind)
        if self.block_map:
            generator = torch.Generator().manual_seed(0)
            size = self.tokens // 64
            blocks = torch.rand(size, size, generator=generator) < 0.25
            names["map"] = perpend.TileMap.from_blocks(blocks | torch.eye(size, dtype=torch.bool), 64)
        return perpend.Mask(self.mask).bind(**names)


ENTRIES = [
    Entry("block_diffusion(4096, 32)", 8192, (28, 4)),
    Entry("context_causal(4096, 32)", 8192, (28, 4)),
    Entry("block_causal(32)", 4096, (28, 4)),
    Entry("block_decode(32, 1000)", 4096, (28, 4)),
    Entry("longgen_sink()", 32768, (32, 8)),
    Entry("longgen_strided()", 32768, (32, 8)),
    Entry("blockrank(doc, 101)", 16384, (32, 8), {"doc": "segments(160*101, 224)"}),
    Entry("frames(32, 12, 12)", 4608, (16, 16)),
    Entry("rolling_frames(144, 8)", 4608, (16, 16)),
    Entry("chunks(1560, 3120)", 14040, (20, 20)),
    Entry("swin(64, 64, 8, 8)", 4096, (8, 8)),
    Entry("dreamvla()", 930, (16, 16)),
    Entry("dreamvla_pretrain()", 930, (16, 16)),
    Entry("paro(map)", 4096, (16, 16), {}, block_map=True),
    Entry("ladir(thought)", 2048, (32, 8), {"thought": "segments(1024, 64*4, 768)"}),
    Entry(
        "ladir_train(1024, part, thought)",
        1152,
        (32, 8),
        {"part": "segments(512, 64, 64, 384, 64, 64)", "thought": "segments(512, 64, 64, 384, 64, 64)"},
    ),
]
# Pictures are drawn of shorter sequences where the pattern would be too fine to see.
PICTURE_SIZES = {
    "block_diffusion(4096, 32)": ("block_diffusion(256, 32)", 512),
    "context_causal(4096, 32)": ("context_causal(256, 32)", 512),
    "block_causal(32)": ("block_causal(32)", 512),
    "block_decode(32, 1000)": ("block_decode(32, 200)", 512),
    "longgen_sink()": ("longgen_sink(64, 1, 8)", 2048),
    "longgen_strided()": ("longgen_strided(64, 4, 8)", 2048),
    "frames(32, 12, 12)": ("frames(8, 12, 12)", 1152),
    "rolling_frames(144, 8)": ("rolling_frames(144, 3)", 1152),
    "swin(64, 64, 8, 8)": ("swin(32, 32, 8, 8)", 1024),
}


def listed() -> dict[str, dict[str, str]]:
    program = ROOT / "build/torch/bin/perpend"
    output = subprocess.run([program, "mask", "list", "--json"], check=True, capture_output=True, text=True).stdout
    lines = (json.loads(line) for line in output.splitlines() if line.strip())
    return {entry["name"]: entry for entry in lines}


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f}"


def section(entry: Entry, known: dict[str, str]) -> str:
    mask = entry.bound()
    q_heads, kv_heads = entry.heads
    plans = [perpend.plan(mask, entry.tokens, num_q_heads=q_heads, num_kv_heads=kv_heads) for _ in range(PLANS)]
    plan = plans[0]
    text, size = PICTURE_SIZES.get(entry.mask, (entry.mask, entry.tokens))
    shown = mask if text == entry.mask else perpend.Mask(text)
    shown.draw(size, max_pixels=256).save(PICTURES / f"{entry.name}.png")
    names = "".join(f", `{name} = {label}`" for name, label in entry.bind.items())
    if entry.block_map:
        names = ", `map` a random block map of 64 x 64 tiles, one in four live"
    drawn = "" if text == entry.mask else f" (the picture: `{text}`, {size} tokens)"
    return "\n".join(
        [
            f"### {entry.name}({known['parameters']})",
            "",
            f'<img src="images/masks/{entry.name}.png" width="200" align="right" alt="{entry.mask}">',
            "",
            f"{known['paper']}: {known['summary']}.",
            "",
            "```",
            known["text"].replace(" | q_in", "\n  | q_in"),
            "```",
            "",
            f"`{entry.mask}`{names}: {entry.tokens} tokens, {q_heads} query heads on {kv_heads}{drawn}.",
            f"{plan.density:.2%} of the pairs are live; planned in "
            f"{statistics.median(p.plan_ms for p in plans):.2f} ms; after the last token a cache keeps "
            f"{mebibytes(plan.kv_bytes)} of {mebibytes(plan.kv_bytes_all)} MiB a layer (bf16, heads of 128).",
            "",
        ]
    )


def main() -> None:
    known = listed()
    forgotten = set(known) - {entry.name for entry in ENTRIES}
    if forgotten:
        raise SystemExit(f"gallery: no entry for {', '.join(sorted(forgotten))}; add it to ENTRIES")
    PICTURES.mkdir(parents=True, exist_ok=True)
    body = "\n".join(section(entry, known[entry.name]) for entry in ENTRIES)
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{rest.split(END)[1]}")


main()
