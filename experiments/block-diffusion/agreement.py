#!/usr/bin/env python3
"""How far adapted models still write what the base model would: on open questions that were not trained on.

    experiments/block-diffusion/agreement.py --perpend build/torch/bin/perpend --out runs/agreement \\
        --base smollm2-135m-instruct --adapters runs/packed/ar runs/packed/block

Each answer, greedy, is scored by the base model token by token behind what was written: how often it is the likeliest
token there, and its mean negative log-likelihood.
"""

import argparse
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from answers import Asker, Setting
from prompts import open_prompts
from runs import Program, write_json
from score import of_adapter


def settings(options: argparse.Namespace) -> list[Setting]:
    found = [Setting("base", ("--model", options.base), ("--ids",), max_tokens=options.max_tokens)]
    for adapter in options.adapters:
        model = of_adapter(options.base, adapter)
        found.append(Setting(pathlib.Path(adapter).name, model, ("--ids",), max_tokens=options.max_tokens))
    return found


def table(rows: list[dict]) -> str:
    lines = ["| answers of | that end | tokens | tokens a forward | the base model's likeliest, % | its loss |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["setting"], row["answers"], row["targets"], f"{row['tokens_per_forward']:.2f}"]
        cells += [f"{100 * row['exact_match']:.1f}", f"{row['loss']:.3f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def scored(asker: Asker, setting: Setting, questions: list[str], base: str) -> dict:
    answers = asker.generate(setting, [[{"role": "user", "content": question}] for question in questions])[0].values()
    data = asker.out / f"{setting.name}.jsonl"
    # Those that were cut have no end that could be scored.
    ended = [answer for answer in answers if answer["finish_reason"] == "stop"]
    lines = ({"prompt": answer["prompt_ids"], "completion": answer["answer_ids"]} for answer in ended)
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["--model", base, "--data", data, "--layers", "causal", "--device", asker.device, "--json"]
    found = asker.program.run("evaluate", *arguments, log=asker.out / f"{setting.name}-score.log")[0]
    tokens, forwards = (sum(answer[key] for answer in ended) for key in ("completion_tokens", "forwards"))
    said = {key: found[key] for key in ("targets", "exact_match", "loss")}
    return {"setting": setting.name, "answers": len(ended), "tokens_per_forward": tokens / forwards} | said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--base", required=True, help="the model that the adapters belong to")
    parser.add_argument("--adapters", nargs="*", default=[])
    parser.add_argument("--count", type=int, default=200, help="questions, at most")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    asker = Asker(Program(options.perpend, time.monotonic() + 1e6), options.out, options.device)
    questions = open_prompts(held_out=True)[: options.count]
    rows = [scored(asker, setting, questions, options.base) for setting in settings(options)]
    write_json(options.out / "agreement.json", rows)
    (options.out / "agreement.md").write_text(table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
