"""What is trained: sizes, data, arms and configurations of the experiment on diffusion with blocks."""

import dataclasses
import json
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from distil import read_distilled
from sequence_folder import SequenceFolderWriter
from tasks import Item, make_items

# The turns of SmolLM2-Instruct's chat template, with the message that it puts first.
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
TURN_OF_USER = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
SOLVED = TURN_OF_USER + "{answer}<|im_end|>\n"
TEST_SEED = 1 << 20  # of questions that no arm is trained on
DISTILLED_TIMES = 4  # that each answer of the base model stands in the data: they are few
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
    # Adapters are trained, which whole training of matrices ("-whole" behind an arm) is compared with.
    lora: dict | None = None
    shots: int = 0  # solved questions before each one, of full attention
    learning_rate: float = 3e-4  # of adapters five times as much
    warmup_steps: int = 40
    threads: int = 0  # as many as there are cores

    @property
    def as_bytes(self) -> bool:
        return "shape" in self.model

    def data_name(self, name: str) -> str:
        return name if self.as_bytes else f"{name}.jsonl"


# Small batches: after 17 million tokens in 257 steps of four of them a block model was far from what it can learn.
SMOLLM2 = Scale(
    model={},
    mask={"mask_token": "<empty_output>"},
    items=60000,
    test_items=1000,
    item_size=1.0,
    chunk_tokens=1024,
    batch_tokens=16384,
    accumulation=1,
    steps=5000,
    block_size=16,
    canvas={"canvas_tokens": 1216},
    lora={"rank": 64, "alpha": 128},
    shots=4,
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
# The real model for two steps: minutes on a CPU, to see that all parts fit.
TRIAL = dataclasses.replace(
    SMOLLM2,
    items=12,
    test_items=2,
    item_size=0.3,
    chunk_tokens=96,
    batch_tokens=256,
    accumulation=1,
    steps=2,
    canvas={"canvas_tokens": 192},
    shots=1,
    warmup_steps=1,
    threads=1,
)
SCALES = {"smollm2": SMOLLM2, "trial": TRIAL, "tiny": TINY}

MASKED = {"kind": "masked_token"}
NEXT = {"kind": "next_token", "weight": 0.5}
BLOCK = {"attention": "block"}
CONTEXT = {"attention": "context_causal"}
# Tables that differ from those of the autoregressive control. Blocks grow over the first half of a run.
WHOLE = "-whole"
ARMS: dict[str, dict] = {
    "ar": {},
    "block": {"diffusion": BLOCK},
    "block-32": {"diffusion": BLOCK | {"block_size": 32}},
    "block-one-view": {"diffusion": BLOCK | {"views": 1}},
    "block-unpadded": {"diffusion": BLOCK | {"pad_blocks": False}},
    "context": {"diffusion": CONTEXT},
    "context-ar": {"diffusion": CONTEXT, "loss": [MASKED, NEXT]},
    "context-ar-grown": {"diffusion": CONTEXT | {"grow_from": 1}, "loss": [MASKED, NEXT]},
    "full": {"diffusion": {"attention": "full", "weighting": "1/p", "max_weight": 5.0}},
}
ROWS_PER_TOKEN = {"ar": 1, "block": 3, "block-32": 3, "block-unpadded": 3, "full": 1}  # others 2


def kind_of(arm: str) -> str:
    """The arm in ARMS that one is, with adapters or whole."""
    return arm.removesuffix(WHOLE)


def has_adapter(scale: Scale, arm: str) -> bool:
    return scale.lora is not None and not arm.endswith(WHOLE)


def training_config(scale: Scale, arm: str, out: pathlib.Path, data: pathlib.Path, device: str, seed: int) -> dict:
    """For `perpend train`."""
    tables = dict(ARMS[kind_of(arm)])
    if "diffusion" in tables:
        tables["diffusion"] = diffusion_table(scale, tables["diffusion"])
    chunks = {} if kind_of(arm) == "full" else {"chunk_tokens": scale.chunk_tokens}  # a canvas is a text alone
    adapted = has_adapter(scale, arm)
    rate = scale.learning_rate * (5 if adapted else 1)
    method = {"lora": scale.lora} if adapted else {"trained": "matrices"} if arm.endswith(WHOLE) else {}
    return {
        "out": str(out),
        "steps": scale.steps,
        "seed": seed,
        "device": device,
        "threads": scale.threads,
        "accumulation": scale.accumulation,
        "log_every": max(1, scale.steps // 100),
        "state_every": 500,
        "keep_states": 1,
        "peak_tflops": 0,  # no MFU
        "model": scale.model,
        "data": {"path": str(data), "batch_tokens": scale.batch_tokens, **chunks},
        "optimizer": {
            "learning_rate": rate,
            "final_learning_rate": rate / 10,
            "warmup_steps": min(scale.warmup_steps, scale.steps // 4),
        },
        **method,
        **tables,
    }


def diffusion_table(scale: Scale, table: dict) -> dict:
    if table["attention"] == "full":
        return table | scale.mask | scale.canvas
    doublings = scale.block_size.bit_length() - 1
    growth = {"grow_every": max(1, scale.steps // (2 * doublings))} if "grow_from" in table else {}
    return {"block_size": scale.block_size} | table | growth | scale.mask


def prompt_of(item: Item, solved: list[Item]) -> str:
    """The turns of a chat up to the answer, which the base model's template makes of such messages."""
    before = "".join(SOLVED.format(question=other.question, answer=other.answer) for other in solved)
    return SYSTEM + before + TURN_OF_USER.format(question=item.question)


def messages_of(item: Item, solved: list[Item]) -> list[dict]:
    """The same for `perpend generate --batch`."""
    turns = [(other.question, other.answer) for other in solved] + [(item.question, None)]
    pairs = [({"role": "user", "content": question}, {"role": "assistant", "content": answer}) for question, answer in turns]
    return [message for pair in pairs for message in pair][:-1]


def with_shots(items: list[Item], shots: int) -> list[tuple[Item, list[Item]]]:
    """Each with the solved ones before it, around the end."""
    return [(item, [items[(place - back) % len(items)] for back in range(shots, 0, -1)]) for place, item in enumerate(items)]


def write_items(scale: Scale, path: pathlib.Path, items: list[Item], shots: int, distilled: list[pathlib.Path]) -> None:
    """A folder of bytes, or text in the turns of a chat, with the base model's own answers behind it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not scale.as_bytes:
        staging = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # arms may begin side by side
        with open(staging, "w") as file:
            for item, solved in with_shots(items, shots):
                file.write(json.dumps({"prompt": prompt_of(item, solved), "completion": item.answer}) + "\n")
            for prompt, answer in [pair for stored in distilled for pair in read_distilled(stored)] * DISTILLED_TIMES:
                file.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")
        staging.replace(path)
        return
    writer = SequenceFolderWriter(path)
    for item in items:
        prompt, answer = [TURN, *item.question.encode(), TURN], [*item.answer.encode(), END]
        weights = [0.0] * len(prompt) + [1.0] * len(answer)
        writer.add(np.array([prompt + answer]), {"weights": np.array([weights])}, {})
    writer.finish()


@dataclasses.dataclass
class Data:
    """What arms are trained and tested on, made where it is first asked for."""

    scale: Scale
    folder: pathlib.Path
    distilled: list[pathlib.Path] = dataclasses.field(default_factory=list)

    def train(self, arm: str, seed: int) -> pathlib.Path:
        shots = self.scale.shots if kind_of(arm) == "full" else 0
        name = f"train-{seed}" + (f"-shots-{shots}" if shots else "")
        # Each is that much longer.
        return self._make(name, self.scale.items // (1 + shots), seed, shots, self.distilled)

    def test(self) -> pathlib.Path:
        return self._make("test", self.scale.test_items, TEST_SEED, 0, [])

    def _make(self, name: str, count: int, seed: int, shots: int, distilled: list[pathlib.Path]) -> pathlib.Path:
        path = self.folder / self.scale.data_name(name)
        if not path.exists():
            write_items(self.scale, path, make_items(count, seed, self.scale.item_size), shots, distilled)
        return path
