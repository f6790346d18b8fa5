"""What is trained: sizes, data, arms and configurations of the experiment on diffusion with blocks."""

import dataclasses
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from sequence_folder import SequenceFolderWriter
from tasks import Item, make_items

# The turns of SmolLM2-Instruct's chat template, with the message that it puts first.
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
TURNS = SYSTEM + "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
# Without a tokenizer: a token a byte, and these.
END, MASK, TURN, BYTE_VOCABULARY = 256, 257, 258, 320


@dataclasses.dataclass(frozen=True)
class Scale:
    model: dict  # the table [model]; {} until --model says where it is
    mask: dict  # which token is the mask token
    items: int  # that are trained on
    test_items: int
    item_size: float  # see make_items()
    chunk_tokens: int
    batch_tokens: int
    accumulation: int  # batches that make a step
    steps: int
    block_size: int
    canvas: dict  # of full attention: length, and the token that fills it up
    learning_rate: float = 3e-4
    warmup_steps: int = 40
    threads: int = 0  # as many as there are cores

    @property
    def as_bytes(self) -> bool:
        return "shape" in self.model

    def data_name(self, name: str) -> str:
        return name if self.as_bytes else f"{name}.jsonl"


SMOLLM2 = Scale(
    model={},
    mask={"mask_token": "<empty_output>"},
    items=60000,
    test_items=1000,
    item_size=1.0,
    chunk_tokens=1024,
    batch_tokens=16384,
    accumulation=4,
    steps=400,
    block_size=16,
    canvas={"canvas_tokens": 512},
)
# Seconds on a CPU: shows that everything runs and learns, and proves nothing about language.
TINY = Scale(
    model={
        "shape": {
            "vocab_size": BYTE_VOCABULARY,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 1024,
        }
    },
    mask={"mask_token_id": MASK},
    items=200,
    test_items=10,
    item_size=0.3,
    chunk_tokens=128,
    batch_tokens=512,
    accumulation=1,
    steps=32,
    block_size=8,
    canvas={"canvas_tokens": 160, "canvas_token_id": END},
    learning_rate=1e-2,
    warmup_steps=4,
    threads=1,
)
SCALES = {"smollm2": SMOLLM2, "tiny": TINY}

MASKED = {"kind": "masked_token"}
NEXT = {"kind": "next_token", "weight": 0.5}
BLOCK = {"attention": "block"}
CONTEXT = {"attention": "context_causal"}
# Tables that differ from those of the autoregressive control. Blocks grow over the first half of a run.
ARMS: dict[str, dict] = {
    "ar": {},
    "block": {"diffusion": BLOCK},
    "block-one-view": {"diffusion": BLOCK | {"views": 1}},
    "block-unpadded": {"diffusion": BLOCK | {"pad_blocks": False}},
    "context": {"diffusion": CONTEXT},
    "context-ar": {"diffusion": CONTEXT, "loss": [MASKED, NEXT]},
    "context-ar-grown": {"diffusion": CONTEXT | {"grow_from": 1}, "loss": [MASKED, NEXT]},
    "full": {"diffusion": {"attention": "full", "weighting": "1/p", "max_weight": 5.0}},
}
ROWS_PER_TOKEN = {"ar": 1, "block": 3, "block-unpadded": 3, "full": 1}  # others 2


def training_config(scale: Scale, arm: str, out: pathlib.Path, data: pathlib.Path, device: str, seed: int) -> dict:
    """For `perpend train`."""
    tables = dict(ARMS[arm])
    if "diffusion" in tables:
        tables["diffusion"] = diffusion_table(scale, tables["diffusion"])
    chunks = {} if arm == "full" else {"chunk_tokens": scale.chunk_tokens}  # a canvas is a text alone
    return {
        "out": str(out),
        "steps": scale.steps,
        "seed": seed,
        "device": device,
        "threads": scale.threads,
        "accumulation": scale.accumulation,
        "log_every": max(1, scale.steps // 100),
        "state_every": 100,
        "keep_states": 1,
        "model": scale.model,
        "data": {"path": str(data), "batch_tokens": scale.batch_tokens, **chunks},
        "optimizer": {
            "learning_rate": scale.learning_rate,
            "schedule": "constant",
            "warmup_steps": min(scale.warmup_steps, scale.steps),
        },
        **tables,
    }


def diffusion_table(scale: Scale, table: dict) -> dict:
    if table["attention"] == "full":
        return table | scale.mask | scale.canvas
    doublings = scale.block_size.bit_length() - 1
    growth = {"grow_every": max(1, scale.steps // (2 * doublings))} if "grow_from" in table else {}
    return table | growth | scale.mask | {"block_size": scale.block_size}


def write_items(scale: Scale, path: pathlib.Path, items: list[Item]) -> None:
    """A folder of bytes, or text in the turns of a chat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not scale.as_bytes:
        staging = path.with_name(path.name + ".tmp")
        lines = ({"prompt": TURNS.format(question=item.question), "completion": item.answer} for item in items)
        staging.write_text("".join(json.dumps(line) + "\n" for line in lines))
        staging.replace(path)
        return
    writer = SequenceFolderWriter(path)
    for item in items:
        prompt, answer = [TURN, *item.question.encode(), TURN], [*item.answer.encode(), END]
        weights = [0.0] * len(prompt) + [1.0] * len(answer)
        writer.add(np.array([prompt + answer]), {"weights": np.array([weights])}, {})
    writer.finish()


def make_data(scale: Scale, folder: pathlib.Path, name: str, count: int, seed: int) -> pathlib.Path:
    path = folder / scale.data_name(name)
    if not path.exists():
        write_items(scale, path, make_items(count, seed, scale.item_size))
    return path
