#!/usr/bin/env python3
"""Trains the arms of LongGen's experiment, tests them, and writes table.md, table.json and accuracy.svg.

    experiments/longgen/run.py --perpend build/torch/bin/perpend --out runs/longgen --scale small --arms F,H,S --minutes 12

A call that ran out of time, or was stopped, is gone on with by the same call. `--fit` gives the arms fewer tokens, all of
them alike, where the time that is left would not do. Arms: F full, H hybrid, S sparse, E hybrid with full layers at the ends;
of F, its weights are tested with the masks of H and S too.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import pathlib
import shutil
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from initial_model import write_initial_model
from protocol import SCALES, Scale, Stage, training_config
from records import Task, write_data
from results import markdown, plot, rows, verdicts
from runs import OutOfTime, Program, toml_text, write_json

TEST_SEED = 1 << 20  # of data that no run is trained on
WATCHED = 32  # sequences that are scored during a run
TESTING_S = 30  # kept for the tests of a seed


@dataclasses.dataclass
class Experiment:
    scale: Scale
    out: pathlib.Path
    program: Program
    device: str
    jobs: int
    fit: bool
    writing: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # arms share data

    def data(self, name: str, parts: list[tuple[Task, int]], seed: int, test: bool = False) -> pathlib.Path:
        folder = self.out / "data" / name
        with self.writing:
            if not folder.exists():
                write_data(folder, self.scale.vocabulary, parts, seed, test)
        return folder

    def train(self, name: str, stage: Stage, start: pathlib.Path, data: pathlib.Path, seed: int, **changes: object) -> pathlib.Path:
        """The folder of the trained model, which was `start`."""
        out = self.out / name
        watch = self.data(f"watch-{stage.length}", [(stage.tasks[-1], WATCHED)], TEST_SEED, test=True)
        if not (out / "model").exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            config = out.with_suffix(".toml")
            config.write_text(toml_text(training_config(self.scale, stage, out, start, data, watch, self.device, seed, **changes)))
            log = out.with_suffix(".log")
            resume = ["--resume"] if out.exists() else []
            report = self.program.run("train", config, "--json", *resume, log=log)[0]
            shutil.rmtree(out / "states")
            exact = f"{100 * self.exact(out):.1f} % exact"
            print(f"{name}: {report['tokens']} tokens, {self.rate(out):.0f} tokens/s, loss {report['loss']:.4f}, {exact}", flush=True)
        return out / "model"

    @staticmethod
    def log(run: pathlib.Path) -> list[dict]:
        return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]

    def rate(self, run: pathlib.Path) -> float:
        """Tokens a second, as most lines of the log say."""
        return statistics.median(entry["tokens_per_s"] for entry in self.log(run))

    def exact(self, run: pathlib.Path) -> float:
        return self.log(run)[-1]["evaluation"]["exact_match"]

    def train_short(self, seed: int) -> pathlib.Path:
        scale, name = self.scale, f"seed-{seed}"
        initial = self.out / name / "initial"
        if not initial.exists():
            write_initial_model(initial, scale.shape(), seed)
        data = self.data(f"{name}-recall", scale.recall.parts, seed)
        recall = self.train(f"{name}/recall", scale.recall, initial, data, seed, stop_at=scale.recall_stop)
        if self.exact(recall.parent) < scale.recall_least:
            raise SystemExit(f"{name}: recall has not formed, so that arms would tell nothing; try another --recall-rate")
        data = self.data(f"{name}-short", scale.short.parts, seed + 1000)
        return self.train(f"{name}/short", scale.short, recall, data, seed)

    def long_stage(self, seed: int, num_arms: int) -> Stage:
        """What the arms of a seed are trained on, decided once."""
        decided = self.out / f"seed-{seed}" / "long.json"
        if not decided.exists():
            tokens = self.scale.long.tokens
            if self.fit:
                seconds = self.program.deadline - time.monotonic() - TESTING_S
                fitting = int(seconds * self.rate(self.out / f"seed-{seed}" / "short") / num_arms)
                if fitting < tokens / 10:
                    raise OutOfTime
                tokens = min(tokens, fitting)
            write_json(decided, {"tokens": tokens})
        return dataclasses.replace(self.scale.long, **json.loads(decided.read_text()))

    def test(self, model: pathlib.Path, masks: str, out: pathlib.Path) -> dict[int, dict]:
        """By length what `perpend evaluate` says."""
        if not out.exists():
            lengths = sorted(self.scale.test_sequences)
            flags = []
            for length in lengths:
                task = dataclasses.replace(self.scale.long.tasks[-1], length=length)
                parts = [(task, self.scale.test_sequences[length])]
                flags += ["--data", self.data(f"test-{length}", parts, TEST_SEED + length, test=True)]
            batch = self.scale.long.batch_tokens
            flags += ["--layers", masks, "--device", self.device, "--threads", self.scale.threads, "--batch-tokens", batch]
            arguments = ["evaluate", "--model", model, *flags, "--json"]
            write_json(out, dict(zip(lengths, self.program.run(*arguments, log=out.with_suffix(".log")))))
        return {int(length): evaluation for length, evaluation in json.loads(out.read_text()).items()}

    def run_arm(self, seed: int, arm: str, stage: Stage, start: pathlib.Path) -> dict[str, dict[int, dict]]:
        """Evaluations of the arm, and of its weights under other masks."""
        folder, data = self.out / f"seed-{seed}", self.out / "data" / f"seed-{seed}-long"
        model = self.train(f"seed-{seed}/{arm}", stage, start, data, seed, layers=self.scale.layer_masks(arm))
        tests = {arm: arm} | ({"F->H": "H", "F->S": "S"} if arm == "F" else {})
        return {name: self.test(model, self.scale.layer_masks(masks), folder / f"test-{name}.json") for name, masks in tests.items()}

    def run_seed(self, seed: int, arms: list[str]) -> dict[str, dict[int, dict]]:
        """What was done in time; A is what all arms start from."""
        start = self.train_short(seed)
        stage = self.long_stage(seed, len(arms))
        self.data(f"seed-{seed}-long", stage.parts, seed + 2000)
        found = {"A": self.test(start, "causal", self.out / f"seed-{seed}" / "test-A.json")}
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            tasks = [pool.submit(self.run_arm, seed, arm, stage, start) for arm in arms]
            for task in tasks:
                try:
                    found |= task.result()
                except OutOfTime:
                    pass
        return found

    def write(self, runs: dict[int, dict[str, dict[int, dict]]]) -> None:
        table = rows(self.scale, runs)
        if not table:
            print("no arm was finished in time: the same call goes on")
            return
        claims = verdicts(self.scale, table)
        text = "Exact match in %, single hops unless it says otherwise.\n\n" + markdown(table) + "\n"
        text += "".join(f"- beyond {self.scale.far} tokens, {claim}: {'yes' if holds else 'no'}\n" for claim, holds in claims.items())
        (self.out / "table.md").write_text(text)
        write_json(self.out / "table.json", {"percent": table, "claims": claims})
        plot(self.scale, runs, self.out / "accuracy.svg")
        print(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--scale", default="full", choices=SCALES)
    parser.add_argument("--arms", default="F,H,S", help="of F, H, S, E")
    parser.add_argument("--seeds", default="1", help="1,2,3")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=1e4)
    parser.add_argument("--jobs", type=int, default=1, help="arms that are trained side by side")
    parser.add_argument("--recall-rate", type=float, help="learning rate while recall forms")
    parser.add_argument("--fit", action="store_true", help="fewer tokens for the arms where there is no time for all")
    options = parser.parse_args()
    arms, seeds = options.arms.split(","), [int(seed) for seed in options.seeds.split(",")]
    if set(arms) - set("FHSE"):
        parser.error(f"--arms: expected some of F, H, S, E ({options.arms})")
    program = Program(options.perpend, time.monotonic() + 60 * options.minutes)
    scale = SCALES[options.scale]
    if rate := options.recall_rate:
        scale = dataclasses.replace(scale, recall=dataclasses.replace(scale.recall, learning_rate=rate, final_learning_rate=rate))
    experiment = Experiment(scale, options.out, program, options.device, options.jobs, options.fit)
    runs = {}
    try:
        for seed in seeds:
            runs[seed] = experiment.run_seed(seed, arms)
    except OutOfTime:
        print("out of time: the same call goes on")
    experiment.write(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
