#!/usr/bin/env python3
"""Trains the arms of the experiment on block diffusion on questions made by a program, and writes table.md and results.json.

    experiments/block-diffusion/run.py --perpend build/torch/bin/perpend --out runs/blocks --model smollm2-135m-instruct \\
        --arms ar,block,context-ar-grown --minutes 20

A call that ran out of time, or was stopped, is gone on with by the same call. Arms, all of them trained for equally many
tokens: ar (next tokens, the control), block (Fast-dLLM v2), block-one-view, block-unpadded, context (NBDiff without its
other parts), context-ar, context-ar-grown (NBDiff), full (LLaDA and Dream).
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from protocol import ARMS, ROWS_PER_TOKEN, SCALES, Scale, make_data, training_config
from runs import OutOfTime, Program, toml_text, write_json

TEST_SEED = 1 << 20  # of questions that no arm is trained on


@dataclasses.dataclass
class Experiment:
    scale: Scale
    out: pathlib.Path
    program: Program
    device: str

    def run_arm(self, arm: str, seed: int) -> dict:
        """What the arm learnt, from its log and from scoring next tokens under a causal mask."""
        name = f"seed-{seed}/{arm}"
        data = make_data(self.scale, self.out / "data", "train", self.scale.items, seed)
        run = self.out / name
        if not (run / "model").exists():
            run.parent.mkdir(parents=True, exist_ok=True)
            config = run.with_suffix(".toml")
            config.write_text(toml_text(training_config(self.scale, arm, run, data, self.device, seed)))
            resume = ["--resume"] if run.exists() else []
            self.program.run("train", config, "--json", *resume, log=run.with_suffix(".log"))
            shutil.rmtree(run / "states")
        entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        tenth = max(1, len(entries) // 10)
        result = {
            "arm": arm,
            "seed": seed,
            "tokens": entries[-1]["tokens"],
            "tokens_per_s": statistics.median(entry["tokens_per_s"] for entry in entries),
            "first_losses": mean_losses(entries[:tenth]),
            "losses": mean_losses(entries[-tenth:]),
            "next_token": self.score(run),
        }
        losses = ", ".join(f"{loss} {value:.4f}" for loss, value in result["losses"].items())
        print(f"{name}: {result['tokens']} tokens, {result['tokens_per_s']:.0f} tokens/s, {losses}", flush=True)
        return result

    def score(self, run: pathlib.Path) -> dict:
        """Of the answers to questions that were not trained on, token by token behind the right ones."""
        scored = run.with_name(f"{run.name}-next-token.json")
        if not scored.exists():
            test = make_data(self.scale, self.out / "data", "test", self.scale.test_items, TEST_SEED)
            arguments = ["--model", run / "model", "--data", test, "--layers", "causal", "--device", self.device, "--json"]
            write_json(scored, self.program.run("evaluate", *arguments, log=scored.with_suffix(".log"))[0])
        found = json.loads(scored.read_text())
        return {key: found[key] for key in ("loss", "exact_match")}


def mean_losses(entries: list[dict]) -> dict[str, float]:
    """Of each loss over those entries that have it."""
    names = dict.fromkeys(name for entry in entries for name in entry["losses"])
    return {name: statistics.fmean(entry["losses"][name] for entry in entries if name in entry["losses"]) for name in names}


def table(results: list[dict]) -> str:
    lines = ["| arm | seed | tokens | rows a token | tokens/s | masked-token loss | next-token loss | exact next tokens |", "|---|---|---|---|---|---|---|---|"]
    for result in results:
        masked = result["losses"].get("masked_token")
        scores = result["next_token"]
        cells = [
            result["arm"],
            result["seed"],
            result["tokens"],
            ROWS_PER_TOKEN.get(result["arm"], 2),
            f"{result['tokens_per_s']:.0f}",
            "" if masked is None else f"{masked:.4f}",
            f"{scores['loss']:.4f}",
            f"{100 * scores['exact_match']:.1f} %",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--scale", default="smollm2", choices=SCALES)
    parser.add_argument("--model", help="SmolLM2-135M-Instruct: a file, a folder or a fetched model's name")
    parser.add_argument("--arms", default="ar,block,context-ar-grown", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--seeds", default="1", help="1,2,3")
    parser.add_argument("--steps", type=int, help="instead of those of the scale")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=1e4)
    options = parser.parse_args()
    arms = options.arms.split(",")
    if unknown := set(arms) - set(ARMS):
        parser.error(f"--arms: {', '.join(sorted(unknown))}: expected some of {', '.join(ARMS)}")
    scale = SCALES[options.scale]
    if scale.as_bytes == bool(options.model):
        parser.error("--model: expected with --scale smollm2, and with it alone")
    if options.model:
        scale = dataclasses.replace(scale, model={"path": options.model})
    if options.steps:
        scale = dataclasses.replace(scale, steps=options.steps)
    experiment = Experiment(scale, options.out, Program(options.perpend, time.monotonic() + 60 * options.minutes), options.device)
    results = []
    try:
        for seed in map(int, options.seeds.split(",")):
            for arm in arms:
                results.append(experiment.run_arm(arm, seed))
    except OutOfTime:
        print("out of time: the same call goes on")
    if results:
        write_json(options.out / "results.json", results)
        (options.out / "table.md").write_text(table(results))
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
