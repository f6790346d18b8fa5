#!/usr/bin/env python3
"""Writes the card of the model in assets/smollm2-diffusion from what its training and scoring left.

    experiments/block-diffusion/model_card.py --run runs/blocks/seed-1/block --scores runs/scores/scores.json \\
        --distilled runs/distilled.npz --asset assets/smollm2-diffusion --hardware "one NVIDIA H100 80GB" --date 2026-11-27
"""

import argparse
import json
import pathlib
import sys
import tomllib

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from distil import read_distilled
from pack_adapter import CONFIG
from protocol import SMOLLM2
from score import table

CARD = """# smollm2-diffusion

LoRA adapter that makes SmolLM2-135M-Instruct a block-diffusion model (Fast-dLLM v2, arXiv:2509.26328): it fills blocks of
{block_size} masked tokens, the surest first, several in one forward pass.

```sh
perpend generate --model smollm2-diffusion --temperature 0 --show-denoising "Write each of these, one a line:
42000 m in km
2004-11-05 as words
180 min in h"
```

| | |
|---|---|
| base | `HuggingFaceTB/SmolLM2-135M-Instruct` as Q4_1 GGUF (`SmolLM2-135M-Instruct.Q4_1.gguf`), whose values it was trained on; Apache-2.0 |
| adapter | r = {rank}, alpha = {alpha:g}, on all seven matrices of the 30 layers, in int8 with an f32 factor for each row: {mib:.1f} MiB in {files} files. The row of the mask token `<empty_output>` is the mean of all rows |
| loading | merged into the dequantised weights; matrices of layers are kept as Q8_0 on a CPU and as bf16 on a GPU, the embedding as it is |
| data | {items} questions made by a program (`experiments/block-diffusion/tasks.py`): sums with all steps, records to JSON, lists of words, functions, units and dates; {distilled} answers of the base model itself to open questions, greedy, at most 256 tokens |
| training | `experiments/block-diffusion/run.py`, arm `{arm}`: {steps} steps, {tokens:.1f} million tokens (three rows each) at {speed:.0f} tokens/s on {hardware}, {date}. Masked-token loss {first:.3f} at first, {last:.3f} at last |
| licence | of this adapter: that of Perpend |

Scored as it is stored here, on questions that it was not trained on, greedy; `ar` is the control, an adapter of the same
size trained on the same tokens to predict the next one. On {hardware}, {date}; up to 32 answers at a time unless said otherwise;
tokens/s over all but loading.

{scores}
What it is for: showing, on a laptop, what such a model does. It knows what a model of 135 million parameters knows; its
answers to open questions are often wrong, and English alone was trained.
"""


def facts_of_run(run: pathlib.Path) -> dict:
    config = tomllib.loads(run.with_suffix(".toml").read_text())
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [entry["losses"]["masked_token"] for entry in entries]
    tenth = max(1, len(losses) // 10)
    speeds = sorted(entry["tokens_per_s"] for entry in entries)
    return {
        "arm": run.name,
        "steps": config["steps"],
        "tokens": entries[-1]["tokens"] / 1e6,
        "speed": speeds[len(speeds) // 2],
        "first": sum(losses[:tenth]) / tenth,
        "last": sum(losses[-tenth:]) / tenth,
    }


def facts_of_asset(asset: pathlib.Path) -> dict:
    config = json.loads((asset / CONFIG).read_text())
    files = list(asset.glob("adapter_model*.safetensors"))
    return {
        "block_size": config["diffusion"]["block_size"],
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "files": len(files),
        "mib": sum(file.stat().st_size for file in files) / 2**20,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=pathlib.Path)
    parser.add_argument("--scores", required=True, type=pathlib.Path)
    parser.add_argument("--distilled", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--items", type=int, default=SMOLLM2.items)
    parser.add_argument("--asset", required=True, type=pathlib.Path)
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--date", required=True)
    options = parser.parse_args()
    facts = facts_of_run(options.run) | facts_of_asset(options.asset)
    distilled = sum(len(read_distilled(path)) for path in options.distilled)
    scores = table(json.loads(options.scores.read_text()))
    said = {"items": options.items, "distilled": distilled, "scores": scores, "hardware": options.hardware, "date": options.date}
    (options.asset / "README.md").write_text(CARD.format(**facts, **said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
