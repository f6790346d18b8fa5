"""Trains rankers on made-up prompts and compares them: BlockRank (arXiv:2510.05396) beside causal attention and decoding.

    python3 experiments/blockrank/run.py --out OUT --scale small --arms A,B,C --seeds 1,2,3 --jobs 3 --minutes 10

The same call goes on where an earlier one stopped, with more arms or seeds if it names them. OUT gets table.md, results.json
and ranking.svg, of what is done so far; prompts and models lie in --work. arms.toml and scales.toml say what is trained.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
import protocol
import report
from runs import OutOfTime, Program, toml_text, write_json


TRIAL_STEPS = 40


class Experiment:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.scale = protocol.read_scale(options.scale)
        self.work = options.work / options.scale
        self.program = Program(options.perpend, time.monotonic() + 60 * options.minutes)
        self.lock = threading.Lock()  # one writes data at a time
        self.work.mkdir(parents=True, exist_ok=True)
        options.out.mkdir(parents=True, exist_ok=True)

    def run(self) -> bool:
        """All arms with all seeds; False where time did not suffice."""
        try:
            self.fit_steps()
        except OutOfTime:
            return False
        runs = [(arm, seed) for seed in self.options.seeds for arm in self.options.arms]
        finished = True
        failures = []
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            for future in concurrent.futures.as_completed([pool.submit(self.run_arm, *run) for run in runs]):
                try:
                    future.result()
                except OutOfTime:
                    finished = False
                except RuntimeError as failure:
                    failures.append(failure)
                self.write_report()
        if failures:
            raise failures[0]
        try:
            self.time_rankings()
        except OutOfTime:
            finished = False
        self.write_report()
        return finished

    def fit_steps(self) -> None:
        """As many steps as the slowest arm makes in --train-minutes beside the others; the same in all calls on one --work."""
        kept = self.work / "steps.json"
        if self.options.train_minutes and not kept.exists():
            trial = self.scale.with_steps(TRIAL_STEPS)
            folder = self.work / "trial"
            with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
                speeds = list(pool.map(lambda arm: self.train(arm, 1, trial, folder, folder / arm.name)["tokens_per_s"], self.options.arms))
            write_json(kept, round(60 * self.options.train_minutes * min(speeds) / self.scale.batch_tokens))
        if kept.exists():
            self.scale = self.scale.with_steps(json.loads(kept.read_text()))

    def folder_of(self, arm: protocol.Arm, seed: int) -> pathlib.Path:
        return self.work / "runs" / f"{arm.name}-{seed}"

    def run_arm(self, arm: protocol.Arm, seed: int) -> None:
        folder = self.folder_of(arm, seed)
        result = folder / "result.json"
        if result.exists():
            return
        training = self.train(arm, seed, self.scale, self.work / "data", folder)
        with self.lock:
            evaluation = protocol.write_evaluation_data(self.work / "data", arm, self.scale)
        write_json(result, {"arm": arm.name, "seed": seed, "training": training, "lists": self.evaluate(arm, folder, evaluation)})

    def train(self, arm: protocol.Arm, seed: int, scale: protocol.Scale, prompts: pathlib.Path, folder: pathlib.Path) -> dict:
        """Writes the prompts, too, unless another arm did."""
        folder.mkdir(parents=True, exist_ok=True)
        with self.lock:
            data = protocol.write_training_data(prompts, arm, seed, scale)
        config = folder / "train.toml"
        out = folder / "training"
        tables = protocol.train_config(arm, seed, scale, data, out, self.options.device, self.options.threads)
        config.write_text(toml_text(tables))
        self.program.run("train", config, "--resume", "--json", log=folder / "train.log")
        entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        speeds = sorted(entry["tokens_per_s"] for entry in entries)
        training = {
            "steps": entries[-1]["step"],
            "tokens": entries[-1]["tokens"],
            "tokens_per_s": speeds[len(speeds) // 2],
            "losses": entries[-1]["losses"],
            "first_losses": entries[0]["losses"],
        }
        print(f"{arm.name} seed {seed}: {training['steps']} steps, {training['tokens_per_s']:.0f} tokens/s, {training['losses']}", flush=True)
        return training

    def evaluate(self, arm: protocol.Arm, folder: pathlib.Path, data: dict[str, pathlib.Path]) -> dict:
        """What each folder of `data` gave, by its name."""
        lists = {}
        # The one pass has positions and mask of its own.
        orders = [name for name in data if name.startswith("order-")]
        for names, more in (([name for name in data if name not in orders], []), (orders, ["--one-pass"])):
            if arm.attention == "causal":
                more = []
            arguments = ["evaluate", "--model", folder / "training" / "model", "--layers", arm.mask, "--device", self.options.device]
            arguments += ["--blockrank", self.scale.layer, "--json", *more]
            for name in names:
                arguments += ["--data", data[name]]
            printed = self.program.run(*arguments, log=folder / "evaluate.log")
            lists.update(zip(names, printed, strict=True))
        return lists

    def time_rankings(self) -> None:
        """Once, with the shape of the models; their weights do not matter."""
        result = self.work / "latency.json"
        config = next(self.work.glob("runs/*/training/model/config.json"), None)
        if result.exists() or config is None:
            return
        docs = ",".join(map(str, self.scale.list_lengths))
        arguments = ["bench", "rank", "--shape", config, "--device", self.options.device, "--docs", docs, "--json"]
        # Behind the id that an answer begins with come two tokens.
        arguments += ["--tokens", max(16, self.scale.language.doc_tokens), "--reps", 20, "--causal", "--block", "--decode", 2]
        printed = self.program.run(*arguments, log=self.work / "latency.log")
        write_json(result, [times for times in printed if "docs" in times])

    def write_report(self) -> None:
        results = [json.loads(path.read_text()) for path in sorted(self.work.glob("runs/*/result.json"))]
        latency = self.work / "latency.json"
        times = json.loads(latency.read_text()) if latency.exists() else []
        if results:
            report.write(self.options.out, self.scale, protocol.read_arms(), results, times)


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of tables and plots")
    parser.add_argument("--work", type=pathlib.Path, help="folder of prompts and models; OUT/work unless given")
    parser.add_argument("--perpend", default=os.environ.get("PERPEND", "perpend"), help="the program; $PERPEND unless given")
    parser.add_argument("--scale", default="small", help="of scales.toml")
    parser.add_argument("--arms", default="A,B,C,D,E", help="of arms.toml")
    parser.add_argument("--seeds", default="1", help="of weights and training prompts")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop then; the same call goes on")
    parser.add_argument("--train-minutes", type=float, help="make runs about so long, instead of the steps of the scale")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of a CPU, for each run")
    options = parser.parse_args(arguments)
    arms = protocol.read_arms()
    for name in options.arms.split(","):
        if name not in arms:
            parser.error(f"--arms: expected {', '.join(arms)}, found {name}")
    options.arms = [arms[name] for name in options.arms.split(",")]
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    options.work = (options.work or options.out / "work").resolve()
    return options


if __name__ == "__main__":
    if not Experiment(read_options()).run():
        sys.exit("out of time: the same call goes on")
