#!/usr/bin/env python3
"""Makes family_goldens.json: logits that `transformers` computes in fp32 for the checkpoints of family_cases.py.

    make_family_goldens.py

Needs torch 2.11.0, transformers 5.23.0, and numpy, gguf and safetensors as tests/requirements.txt has them.
Nothing of Perpend takes part."""

import json
import pathlib
import tempfile

import torch
import transformers
from family_cases import FAMILIES, GOLDENS, write_family


@torch.inference_mode()
def golden(folder: pathlib.Path, index: int) -> dict:
    tokens, digest = write_family(folder, index)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    logits = model(torch.tensor([tokens])).logits[0]
    rows = [[float(f"{value:.7g}") for value in row.tolist()] for row in logits[::5]]
    return {"name": FAMILIES[index].name, "digest": digest, "class": type(model).__name__, "row_step": 5, "logits": rows}


def main():
    goldens = []
    with tempfile.TemporaryDirectory() as name:
        for index in range(len(FAMILIES)):
            goldens.append(golden(pathlib.Path(name) / str(index), index))
    head = {"torch": torch.__version__, "transformers": transformers.__version__}
    lines = ",\n".join(json.dumps(entry) for entry in goldens)
    GOLDENS.write_text(f'{{"made_with": {json.dumps(head)},\n"goldens": [\n{lines}\n]}}\n')


main()
