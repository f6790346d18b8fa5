"""What is trained and tested: sizes, data, masks and configurations of LongGen's experiment (docs/systems/longgen.md)."""

import dataclasses
import math
import pathlib

from drills import Drill
from records import GROUP_TOKENS, Task, Vocabulary


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run of `perpend train`: so many `tokens` in batches of `batch_tokens`, of each task as many. The last task is scored
    during the run."""

    tasks: tuple[Task | Drill, ...]
    tokens: int
    batch_tokens: int
    learning_rate: float
    final_learning_rate: float
    rope_theta: float = 1e4
    warmup_steps: int = 50

    @property
    def length(self) -> int:
        return self.tasks[-1].length

    @property
    def steps(self) -> int:
        return max(1, self.tokens // self.batch_tokens)

    @property
    def parts(self) -> list[tuple[Task | Drill, int]]:
        """Sequences of each task."""
        tokens = self.steps * self.batch_tokens / len(self.tasks)
        return [(task, math.ceil(tokens / task.length)) for task in self.tasks]


@dataclasses.dataclass(frozen=True)
class Scale:
    layers: int
    model_dim: int
    heads: int
    vocabulary: Vocabulary
    block: int
    window_blocks: int
    full_layers: int
    recall: Stage  # dense in questions; ends when recall has formed
    short: Stage  # all attention is full
    long: Stage  # one for each arm
    test_sequences: dict[int, int]  # by length
    far: int = 512  # tokens from record to question beyond which the claim is checked
    recall_stop: float = 0.95  # share of exact answers at which recall has formed
    threads: int = 0  # of the host; 0: one for each core
    recall_least: float = 0.5  # below which nothing can be learnt about arms

    @property
    def window(self) -> int:
        return self.window_blocks * self.block

    def layer_masks(self, arm: str) -> str:
        """F: full, H: sparse but for the layers in the middle, E: but for those at the ends, S: sparse."""
        sparse = f"causal & (near({self.block}, {self.window_blocks}) | sink({self.block}))"
        first = (self.layers - self.full_layers) // 2
        half = max(1, self.full_layers // 2)
        full = {
            "H": f"{first}-{first + self.full_layers - 1}",
            "E": f"0-{half - 1},{self.layers - half}-{self.layers - 1}",
        }
        return {"F": "causal", "S": sparse}.get(arm) or f"{full[arm]}: causal; rest: {sparse}"

    def shape(self) -> dict:
        vocabulary = self.vocabulary
        return {
            "vocab_size": -(-(vocabulary.first_value + vocabulary.values) // 64) * 64,
            "hidden_size": self.model_dim,
            "intermediate_size": self.model_dim * 11 // 4,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "max_position_embeddings": max(self.long.length, *self.test_sequences),
        }


M = 1 << 20
VOCABULARY = Vocabulary(filler=1000, keys=512, values=512, branches=4)
RECORDS = Task(256, 24, 0, 12, 0, 2, hint_weight=0.5)


def drills(most_keys: int) -> tuple[Drill, ...]:
    return tuple(Drill(records, turns, most_keys) for records, turns in ((2, 6), (4, 16), (8, 32), (24, 64)))


# Of few records and of few keys a network finds out soonest which tokens of a record belong together, and it needs that for
# all others. Records in filler are what recall is scored on.
RECALL = Stage(
    tasks=(*drills(32), *drills(0), RECORDS, RECORDS),
    tokens=24 * M,
    batch_tokens=M // 128,
    learning_rate=5e-4,
    final_learning_rate=5e-4,
)
# Chains are learnt from many of them, in a quarter of the tokens.
CHAINS = Task(1024, records=48, chains=24, questions=0, two_hop_questions=24)
SHORT = Stage((CHAINS, Task(1024), Task(1024), Task(1024)), tokens=79 * 10**6, batch_tokens=M // 16, learning_rate=5e-4, final_learning_rate=1e-4)
LONG = Stage((Task(4096, filler_weight=0.02),), tokens=52 * 10**6, batch_tokens=M // 16, learning_rate=3e-4, final_learning_rate=3e-5, rope_theta=1e5)
FULL = Scale(
    layers=12,
    model_dim=512,
    heads=8,
    vocabulary=VOCABULARY,
    block=32,
    window_blocks=7,
    full_layers=4,
    recall=RECALL,
    short=SHORT,
    long=LONG,
    test_sequences={1024: 256, 2048: 128, 4096: 128},
)
# Less of the same, in smaller steps: about 6 minutes of one H100 for F, H and S.
SMALL = dataclasses.replace(
    FULL,
    short=dataclasses.replace(SHORT, tokens=32 * M, batch_tokens=M // 32),
    long=dataclasses.replace(LONG, tokens=24 * M, batch_tokens=M // 32),
)
# A quarter of an hour of one core of a CPU: 1.3 million parameters, a window of 64 tokens, a length of 512.
MINIATURE = Scale(
    layers=6,
    model_dim=128,
    heads=2,
    vocabulary=Vocabulary(filler=128, keys=128, values=128, branches=4),
    block=32,
    window_blocks=2,
    full_layers=2,
    recall=dataclasses.replace(RECALL, tokens=4 * M, batch_tokens=2560, learning_rate=1e-3, final_learning_rate=1e-3),
    short=Stage((Task(256, questions=10, two_hop_questions=2),), M, 2560, 1e-3, 3e-4),
    long=Stage((Task(512, questions=10, two_hop_questions=2, filler_weight=0.02),), M, 4096, 5e-4, 5e-5, rope_theta=1e5),
    test_sequences={256: 64, 512: 64},
    far=64,
    threads=1,
)
# Seconds on a CPU: shows that everything runs and that something is learnt, and proves nothing about long contexts.
TINY = Scale(
    layers=2,
    model_dim=32,
    heads=2,
    vocabulary=Vocabulary(filler=16, keys=16, values=16, branches=2),
    block=GROUP_TOKENS,
    window_blocks=1,
    full_layers=1,
    recall=Stage((Drill(2, 6), Drill(4, 16), Task(24, 2, 0, 2, 0, hint_weight=0.5)), 1200 * 1024, 1536, 5e-3, 5e-3),
    short=Stage((Task(48, 4, 1, 2, 1),), 8 * 1024, 1024, 3e-3, 3e-4, warmup_steps=4),
    long=Stage((Task(96, 4, 1, 2, 1),), 8 * 1024, 1024, 1e-3, 1e-4, 1e5, warmup_steps=4),
    test_sequences={48: 32, 96: 32},
    threads=1,
)
SCALES = {"full": FULL, "small": SMALL, "miniature": MINIATURE, "tiny": TINY}


def training_config(
    scale: Scale, stage: Stage, out: pathlib.Path, start: pathlib.Path, data: pathlib.Path, watch: pathlib.Path, device: str, seed: int, **changes: object
) -> dict:
    """For `perpend train`; from the model `start`; `watch` is scored during the run. changes: layers, stop_at."""
    return {
        "out": str(out),
        "steps": stage.steps,
        "seed": seed,
        "device": device,
        "threads": scale.threads,
        "log_every": 10,
        "state_every": 1000,
        "keep_states": 1,
        "model": {
            "path": str(start),
            "layers": changes.get("layers", "causal"),
            "rope_theta": stage.rope_theta,
        },
        "data": {"path": str(data), "batch_tokens": stage.batch_tokens},
        "evaluation": {"path": str(watch), "every": 50, **({"stop_at": changes["stop_at"]} if "stop_at" in changes else {})},
        "optimizer": {
            "learning_rate": stage.learning_rate,
            "final_learning_rate": stage.final_learning_rate,
            "warmup_steps": min(stage.warmup_steps, stage.steps),
            "weight_decay": 0.1,
        },
    }
