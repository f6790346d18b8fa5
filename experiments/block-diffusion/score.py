#!/usr/bin/env python3
"""Scores adapted models on questions that they were not trained on: right answers, tokens a forward pass, tokens/s.

    experiments/block-diffusion/score.py --perpend build/torch/bin/perpend --out runs/scores --base smollm2-135m-instruct \\
        --ar runs/packed/ar --block runs/packed/block --other runs/packed/block-one-view

Of --block all thresholds, sub-blocks and both caches; of each --other the thresholds alone. Writes scores.md, scores.json
and plots; what was answered before is not asked again, so that a call which ran out of --minutes is gone on with.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from answers import Asker, Setting, report
from line_plot import write_line_plot
from pack_adapter import CONFIG
from protocol import TEST_SEED
from runs import OutOfTime, Program
from tasks import make_items

THRESHOLDS = [1.0, 0.95, 0.9, 0.8, 0.7]
SUB_BLOCKS = [4, 8]  # and whole blocks
USUAL_SUB_BLOCK = 4  # of the model as it is shipped
ONE_BY_ONE = 100  # questions that are answered one after another, for the speed at batch 1
COLUMNS = {
    "exact match, %": lambda row: f"{row['exact_match']:.1f}",
    "questions": lambda row: row["items"],
    "tokens a forward": lambda row: f"{row['tokens_per_forward']:.2f}",
    "forwards": lambda row: row["forwards"],
    "tokens/s": lambda row: f"{row['tokens_per_s']:.0f}",
    "of an answer behind its prompt": lambda row: f"{row['answer_tokens_per_s']:.0f}",
}


def of_adapter(base: str, adapter: str) -> tuple[str, ...]:
    return ("--model", base, "--adapter", adapter)


def whole_blocks(adapter: str) -> tuple[object, ...]:
    """Flags for blocks that are filled as a whole, as large as those that the adapter was trained on."""
    return ("--sub-block", json.loads((pathlib.Path(adapter) / CONFIG).read_text())["diffusion"]["block_size"])


def with_threshold(name: str, model: tuple[str, ...], items: int, *more: object) -> list[Setting]:
    """At thresholds of 1 nothing is surer, so that tokens come one by one."""
    return [Setting(f"{name} tau {tau}", model, ("--threshold", tau, *more), num_items=items) for tau in THRESHOLDS]


def main_settings(options: argparse.Namespace) -> list[Setting]:
    """The control and the model, many answers at a time and one."""
    ar, block = of_adapter(options.base, options.ar), of_adapter(options.base, options.block)
    whole = whole_blocks(options.block)
    found = [Setting("ar", ar, num_items=options.items)]
    found += with_threshold("block", block, options.items, *whole)
    usual = ("--sub-block", USUAL_SUB_BLOCK)
    found += with_threshold(f"block S {USUAL_SUB_BLOCK}", block, options.items, *usual)
    alone = {"num_items": min(ONE_BY_ONE, options.items), "batch_size": 1}
    found.append(Setting("ar, batch 1", ar, **alone))
    for tau in (0.95, 0.9, 0.8):
        found.append(Setting(f"block tau {tau}, batch 1", block, ("--threshold", tau, *whole), **alone))
        found.append(Setting(f"block S {USUAL_SUB_BLOCK} tau {tau}, batch 1", block, ("--threshold", tau, *usual), **alone))
    found.append(Setting("block token by token", block, ("--block-size", 1), num_items=options.items))
    # What a block is in decoding and what it was in training: half as large.
    halved = ("--threshold", 0.9, "--block-size", whole[1] // 2)
    found.append(Setting("block tau 0.9, blocks halved", block, halved, num_items=options.items))
    return found


def other_settings(options: argparse.Namespace) -> list[Setting]:
    found = []
    for other in options.other:
        name, model = pathlib.Path(other).name, of_adapter(options.base, other)
        found += with_threshold(name, model, options.items, *whole_blocks(other))
    return found


def cache_settings(options: argparse.Namespace) -> list[Setting]:
    found = []
    for size in SUB_BLOCKS:
        for cache in ("block", "sub-block"):
            more = ("--sub-block", size, "--cache", cache)
            name = f"block S {size} cache {cache}"
            found += with_threshold(name, of_adapter(options.base, options.block), options.some_items, *more)
    return found


PARTS = {"main": main_settings, "other": other_settings, "caches": cache_settings}


def table(rows: list[dict]) -> str:
    lines = ["| setting | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {row['setting']} | " + " | ".join(str(cell(row)) for cell in COLUMNS.values()) + " |" for row in rows]
    tasks = list(rows[0]["by_task"]) if rows else []
    lines += ["", "| exact match, % | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    lines += [f"| {row['setting']} | " + " | ".join(f"{row['by_task'].get(task, 0):.1f}" for task in tasks) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_plot(path: pathlib.Path, rows: list[dict]) -> None:
    series: dict[str, list] = {}
    for row in rows:
        name, _, tau = row["setting"].partition(" tau ")
        if tau and "," not in tau:
            series.setdefault(name, []).append((row["tokens_per_forward"], row["exact_match"], 0.0))
    if rows[0]["setting"] == "ar":
        series["autoregressive control"] = [(1.0, rows[0]["exact_match"], 0.0)]
    if any(series.values()):
        write_line_plot(path, "Thresholds from 1 to 0.7", "tokens a forward pass", "exact match, %", series)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--base", required=True, help="the model that the adapters belong to")
    parser.add_argument("--ar", required=True, help="adapter of the autoregressive control")
    parser.add_argument("--block", required=True, help="adapter of the diffusion model")
    parser.add_argument("--other", nargs="*", default=[], help="adapters of other diffusion models")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--some-items", type=int, default=300, help="for the settings of caches and sub-blocks")
    parser.add_argument("--max-tokens", type=int, default=384, help="of an answer; longer ones are wrong")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="of the questions")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=1e4)
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    items = make_items(options.items, options.seed)
    asker = Asker(Program(options.perpend, time.monotonic() + 60 * options.minutes), options.out / "answers", options.device)
    rows = []
    try:
        for setting in [setting for part in parts for setting in PARTS[part](options)]:
            rows.append(asker.ask(dataclasses.replace(setting, max_tokens=options.max_tokens), items))
            report(options.out, "scores", rows, table, write_plot)
    except OutOfTime:
        print("out of time: the same call goes on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
