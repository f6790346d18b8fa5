#!/usr/bin/env python3
"""Trains the arms of the experiment on block diffusion on questions made by a program, and writes table.md and results.json.

    experiments/block-diffusion/run.py --perpend build/torch/bin/perpend --out runs/blocks --model smollm2-135m-instruct \\
        --distilled runs/distilled.npz --arms ar,block,context-ar-grown --minutes 20

A call that ran out of time, or was stopped, is gone on with by the same call. Arms, all of them trained for equally many
tokens: ar (next tokens, the control), block (Fast-dLLM v2), block-32 (the same with larger blocks), block-one-view,
block-unpadded, context (NBDiff without its other parts), context-ar, context-ar-grown (NBDiff), full (LLaDA and Dream).
They train adapters; "block-whole" trains all matrices of the layers.
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
from protocol import ARMS, ROWS_PER_TOKEN, SCALES, Data, Scale, has_adapter, kind_of, training_config
from runs import OutOfTime, Program, toml_text, write_json

TRIAL_STEPS = 12


@dataclasses.dataclass
class Experiment:
    scale: Scale
    out: pathlib.Path
    data: Data
    program: Program
    device: str

    def run_arm(self, arm: str, seed: int) -> None:
        """Writes down what the arm learnt, from its log and from scoring next tokens under a causal mask."""
        name = f"seed-{seed}/{arm}"
        run = self.out / name
        result = run / ("adapter" if has_adapter(self.scale, arm) else "model")
        if not result.exists():
            self.train(self.scale, arm, seed, run)
            shutil.rmtree(run / "states")
        entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        tenth = max(1, len(entries) // 10)
        row = {
            "arm": arm,
            "seed": seed,
            "tokens": entries[-1]["tokens"],
            "tokens_per_s": statistics.median(entry["tokens_per_s"] for entry in entries),
            "first_losses": mean_losses(entries[:tenth]),
            "losses": mean_losses(entries[-tenth:]),
            "next_token": self.score(run, result),
        }
        write_json(run.with_name(f"{run.name}-result.json"), row)
        losses = ", ".join(f"{loss} {value:.4f}" for loss, value in row["losses"].items())
        print(f"{name}: {row['tokens']} tokens, {row['tokens_per_s']:.0f} tokens/s, {losses}", flush=True)

    def train(self, scale: Scale, arm: str, seed: int, run: pathlib.Path) -> None:
        data = self.data.train(arm, seed)
        run.parent.mkdir(parents=True, exist_ok=True)
        config = run.with_suffix(".toml")
        config.write_text(toml_text(training_config(scale, arm, run, data, self.device, seed)))
        resume = ["--resume"] if run.exists() else []
        self.program.run("train", config, "--json", *resume, log=run.with_suffix(".log"))

    def steps_in(self, minutes: float, arm: str, seed: int) -> int:
        """That `arm` can do, by the speed of a few; written down, so that later calls and other arms take as many."""
        known = self.out / "steps.json"
        if not known.exists():
            run = self.out / "trial"
            shutil.rmtree(run, ignore_errors=True)
            self.train(dataclasses.replace(self.scale, steps=TRIAL_STEPS), arm, seed, run)
            entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            speed = statistics.median(entry["tokens_per_s"] for entry in entries[TRIAL_STEPS // 3 :])
            steps = max(TRIAL_STEPS, round(minutes * 60 * speed / (entries[-1]["tokens"] / entries[-1]["step"])))
            write_json(known, {"arm": arm, "minutes": minutes, "tokens_per_s": speed, "steps": steps})
            print(f"{arm}: {speed:.0f} tokens/s, {steps} steps in {minutes} minutes", flush=True)
        return json.loads(known.read_text())["steps"]

    def score(self, run: pathlib.Path, result: pathlib.Path) -> dict:
        """Of the answers to questions that were not trained on, token by token behind the right ones."""
        scored = run.with_name(f"{run.name}-next-token.json")
        if not scored.exists():
            model = ["--model", self.scale.model["path"], "--adapter", result] if result.name == "adapter" else ["--model", result]
            arguments = [*model, "--data", self.data.test(), "--layers", "causal", "--device", self.device, "--json"]
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
            ROWS_PER_TOKEN.get(kind_of(result["arm"]), 2),
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
    parser.add_argument("--distilled", type=pathlib.Path, nargs="*", default=[], help="answers of the model, from distil.py, to train on too")
    parser.add_argument("--arms", default="ar,block,context-ar-grown", help=f"of {', '.join(ARMS)}; -whole behind one: no adapters")
    parser.add_argument("--seeds", default="1", help="1,2,3")
    parser.add_argument("--steps", type=int, help="instead of those of the scale")
    parser.add_argument("--block-minutes", type=float, help="instead: as many steps as the arm block does in so long, by a trial")
    parser.add_argument("--items", type=int, help="questions to train on, instead of those of the scale")
    parser.add_argument("--test-items", type=int, help="the same for testing")
    parser.add_argument("--batch-tokens", type=int, help="the same")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=1e4)
    options = parser.parse_args()
    arms = options.arms.split(",")
    if unknown := {arm for arm in arms if kind_of(arm) not in ARMS}:
        parser.error(f"--arms: {', '.join(sorted(unknown))}: expected some of {', '.join(ARMS)}")
    scale = SCALES[options.scale]
    if scale.as_bytes == bool(options.model):
        parser.error("--model: expected with --scale smollm2 and trial, and with them alone")
    if options.model:
        scale = dataclasses.replace(scale, model={"path": options.model})
    changes = {name: getattr(options, name) for name in ("steps", "items", "test_items", "batch_tokens") if getattr(options, name)}
    scale = dataclasses.replace(scale, **changes)
    program = Program(options.perpend, time.monotonic() + 60 * options.minutes)
    experiment = Experiment(scale, options.out, Data(scale, options.out / "data", options.distilled), program, options.device)
    try:
        if options.block_minutes:
            steps = experiment.steps_in(options.block_minutes, "block", 1)
            experiment.scale = dataclasses.replace(scale, steps=steps)
        for seed in map(int, options.seeds.split(",")):
            for arm in arms:
                experiment.run_arm(arm, seed)
    except OutOfTime:
        print("out of time: the same call goes on")
    # Of other calls too, which train other arms.
    if results := [json.loads(path.read_text()) for path in sorted(options.out.glob("seed-*/*-result.json"))]:
        write_json(options.out / "results.json", results)
        (options.out / "table.md").write_text(table(results))
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
