#!/usr/bin/env python3
"""What Elastic-Cache rests on: how keys and values of tokens that are final change from step to step, layer by layer.

    perpend convert smollm2-135m-instruct base --format bf16
    experiments/block-diffusion/drift.py --perpend build/torch/bin/perpend --base base --adapter runs/packed/full --out runs/drift

Answers questions without a cache, in float32 with numpy on a CPU (minutes), tokens of probability 0.9 in a window of 16.
Writes drift.md, drift.json and a plot: of each layer the mean cosine of keys and values between steps, and where the
token that the window looks at most stands among the final ones ordered by how much their keys changed (0: least, 100: most).
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from answers import Asker, Setting
from line_plot import write_line_plot
from numpy_model import FullAttentionModel, LayerState, read_model
from protocol import SMOLLM2, TEST_SEED, messages_of, with_shots
from runs import Program, write_json
from tasks import make_items


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row, all heads together."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


class Answer:
    """A canvas with full attention, filled as `perpend generate --cache none --fill-window` does."""

    def __init__(self, prompt: list[int], length: int, mask: int, end: int, window: int, threshold: float):
        self.tokens = [*prompt, *[mask] * length]
        self.prompt, self.mask, self.end, self.window, self.threshold = len(prompt), mask, end, window, threshold

    def open_window(self) -> list[int]:
        """Masked places that may be filled: the first ones, none behind the end of the text."""
        answer = self.tokens[self.prompt :]
        stop = answer.index(self.end) if self.end in answer else len(answer)
        return [self.prompt + place for place in range(stop) if answer[place] == self.mask][: self.window]

    def fill(self, places: list[int], logits: np.ndarray) -> None:
        logits = logits.astype(np.float64)
        logits[:, self.mask] = -np.inf
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        surest = chances.max(axis=1)
        limit = min(self.threshold, surest.max())
        for place, chance, token in zip(places, surest, chances.argmax(axis=1)):
            if chance >= limit:
                self.tokens[place] = int(token)


def measure(before: LayerState, after: LayerState, final: np.ndarray) -> dict[str, float]:
    """Of the tokens that were final before the step, and of the one among them that the window looked at most."""
    keys, values = cosines(before.keys[final], after.keys[final]), cosines(before.values[final], after.values[final])
    tracked = before.attention.sum(axis=(0, 1))[final].argmax()
    return {"keys": float(keys.mean()), "values": float(values.mean()), "rank": 100 * float(np.mean(keys > keys[tracked]))}


def drift_of(model: FullAttentionModel, answer: Answer) -> list[list[dict[str, float]]]:
    """For each step but the first, of each layer."""
    steps, before = [], None
    while places := answer.open_window():
        final = np.flatnonzero(np.array(answer.tokens) != answer.mask)
        # A token is predicted by the row before it.
        logits, after = model.run(answer.tokens, [place - 1 for place in places])
        if before:
            known, states = before
            steps.append([measure(a, b, known) for a, b in zip(states, after)])
        before = final, after
        answer.fill(places, logits)
    return steps


def table(layers: list[dict[str, float]]) -> str:
    lines = ["| layer | keys | values | place of the tracked token, % |", "|---|---|---|---|"]
    lines += [f"| {i} | {row['keys']:.4f} | {row['values']:.4f} | {row['rank']:.0f} |" for i, row in enumerate(layers)]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program, which tokenizes")
    parser.add_argument("--base", required=True, type=pathlib.Path, help="Hugging Face folder of the model")
    parser.add_argument("--adapter", required=True, type=pathlib.Path, help="adapter of the arm full")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--items", type=int, default=5)
    parser.add_argument("--shots", type=int, default=SMOLLM2.shots)
    parser.add_argument("--length", type=int, default=256, help="of the canvas behind the prompt, in tokens")
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--end", type=int, default=2, help="token that ends an answer")
    options = parser.parse_args()
    config, adapted, tensors = read_model(options.base, options.adapter)
    model, mask = FullAttentionModel(config, tensors), adapted["diffusion"]["mask_token_id"]
    options.out.mkdir(parents=True, exist_ok=True)
    asked = with_shots(make_items(options.items, TEST_SEED), options.shots)
    asker = Asker(Program(options.perpend, float("inf")), options.out, "cpu")
    ids = Setting("prompts", ("--model", str(options.base)), ("--ids",), max_tokens=1)
    prompts = [result["prompt_ids"] for result in asker.generate(ids, [messages_of(*each) for each in asked])[0].values()]
    steps = []
    for place, prompt in enumerate(prompts):
        steps += drift_of(model, Answer(prompt, options.length, mask, options.end, options.window, options.threshold))
        print(f"question {place + 1} of {len(prompts)}: {len(steps)} steps", flush=True)
    if not steps:
        parser.error("no answer took more than one step: there is nothing to compare")
    layers = [{name: float(np.mean([step[i][name] for step in steps])) for name in steps[0][i]} for i in range(model.layers)]
    write_json(options.out / "drift.json", {"steps": len(steps), "layers": layers})
    (options.out / "drift.md").write_text(table(layers))
    series = {name: [(i, 1 - layer[name], 0.0) for i, layer in enumerate(layers)] for name in ("keys", "values")}
    write_line_plot(options.out / "drift.svg", "Keys and values from step to step", "layer", "1 - mean cosine", series)
    print(table(layers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
