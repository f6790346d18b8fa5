#!/usr/bin/env python3
"""Elastic-Cache on a model of full attention: what refreshing less costs in right answers, and saves in rows and time.

    experiments/block-diffusion/elastic.py --perpend build/torch/bin/perpend --out runs/elastic \\
        --base smollm2-135m-instruct --adapter runs/packed/full

Questions stand behind four solved ones, about 700 tokens. Writes elastic.md, elastic.json and a plot; what was answered
before is not asked again.
"""

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from answers import LAYERS, Asker, Setting, report
from line_plot import write_line_plot
from protocol import SMOLLM2, TEST_SEED
from runs import OutOfTime, Program
from score import of_adapter
from tasks import make_items

WINDOW = 16
GAMMAS = [0.9, 0.0, 0.95, 0.85, 0.7]  # the one that is claimed first
COLUMNS = {
    "exact match, %": lambda row: f"{row['exact_match']:.1f}",
    "questions": lambda row: row["items"],
    "steps": lambda row: row["forwards"],
    "tokens a step": lambda row: f"{row['tokens_per_forward']:.2f}",
    "rows a step": lambda row: f"{row['rows_computed'] / max(1, row['forwards']):.0f}",
    "refreshed layers, %": lambda row: f"{100 * row['refreshed_layers'] / max(1, LAYERS * row['forwards']):.1f}",
    "tokens/s": lambda row: f"{row['tokens_per_s']:.1f}",
}


def settings(options: argparse.Namespace, length: int) -> list[Setting]:
    model = of_adapter(options.base, options.adapter)

    def setting(name: str, *flags: object, items: int = options.items) -> Setting:
        # One after another: what Elastic saves depends on no batch.
        return Setting(f"{length}: {name}", model, flags, batch_size=1, num_items=items, max_tokens=length)

    sure = ("--threshold", 0.9)
    found = [setting("no cache, threshold 0.9", "--cache", "none", "--fill-window", WINDOW, *sure)]
    for gamma in GAMMAS:
        for similarity in ("heads", "keys"):
            flags = ("--cache", "elastic", "--fill-window", WINDOW, "--gamma", gamma, "--similarity", similarity, *sure)
            found.append(setting(f"elastic {similarity} gamma {gamma}", *flags))
    found.append(setting("dual cache, blocks of 32, threshold 0.9", "--cache", "dual", "--block-size", 32, *sure))
    one = ("--cache", "none", "--fill-window", WINDOW, "--unmask", "count", "--tokens-per-step", 1)
    found.append(setting("no cache, one token a step", *one, items=options.slow_items))
    return found


def table(rows: list[dict]) -> str:
    lines = ["| canvas: setting | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {row['setting']} | " + " | ".join(str(cell(row)) for cell in COLUMNS.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_plot(path: pathlib.Path, rows: list[dict]) -> None:
    series: dict[str, list] = {}
    for row in rows:
        name, _, gamma = row["setting"].partition(" gamma ")
        if gamma:
            series.setdefault(name, []).append((float(gamma), row["exact_match"], 0.0))
            refreshed = 100 * row["refreshed_layers"] / max(1, LAYERS * row["forwards"])
            series.setdefault(f"{name}, refreshed", []).append((float(gamma), refreshed, 0.0))
    if series:
        write_line_plot(path, "Exact match and refreshed layers", "gamma", "%", series)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--base", required=True, help="the model that the adapter belongs to")
    parser.add_argument("--adapter", required=True, help="adapter of the arm full")
    parser.add_argument("--lengths", default="256,512", help="of the canvas behind the prompt, in tokens")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--slow-items", type=int, default=100, help="with one token a step")
    parser.add_argument("--shots", type=int, default=SMOLLM2.shots)
    parser.add_argument("--item-size", type=float, default=SMOLLM2.item_size)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=1e4)
    options = parser.parse_args()
    items = make_items(options.items, TEST_SEED, options.item_size)
    asker = Asker(Program(options.perpend, time.monotonic() + 60 * options.minutes), options.out / "answers", options.device)
    rows = []
    try:
        for length in map(int, options.lengths.split(",")):
            for setting in settings(options, length):
                rows.append(asker.ask(setting, items, options.shots))
                report(options.out, "elastic", rows, table, write_plot)
    except OutOfTime:
        print("out of time: the same call goes on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
