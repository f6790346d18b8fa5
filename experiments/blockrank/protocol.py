"""The experiment as numbers: arms.toml and scales.toml, the data of a seed and the configuration of a run."""

import dataclasses
import pathlib
import tomllib

from prompts import Batch, Form, Language, Lists, write_prompts
from sequence_folder import without_array

FOLDER = pathlib.Path(__file__).parent
TAU, AUXILIARY_WEIGHT = 0.05, 0.1
EVALUATION_SEED = 1 << 20  # apart from seeds of training data
MASKS = {"causal": "causal", "block": "causal & (same(doc) | k_in(doc, 0) | q_in(part, 2))"}


@dataclasses.dataclass(frozen=True)
class Arm:
    name: str
    title: str
    attention: str
    losses: tuple[str, ...]
    query_first: bool = True

    @property
    def data(self) -> str:
        """The folder of its prompts among those of all arms."""
        return "causal" if self.attention == "causal" else "block" if self.query_first else "query-last"

    @property
    def mask(self) -> str:
        return MASKS[self.attention]


@dataclasses.dataclass(frozen=True)
class Scale:
    name: str
    batch_tokens: int
    learning_rate: float
    language: Language
    model: dict
    stages: list[dict]
    evaluation: dict

    @property
    def layer(self) -> int:
        """Whose attention ranks: nearest to 20/32 of the depth."""
        return (5 * self.model["num_hidden_layers"] + 3) // 8

    @property
    def steps(self) -> int:
        return sum(stage["steps"] for stage in self.stages)

    @property
    def list_lengths(self) -> list[int]:
        return [int(docs) for docs in self.evaluation["docs"]]

    def with_steps(self, steps: int) -> "Scale":
        """The same stages, longer or shorter."""
        factor = steps / self.steps
        return dataclasses.replace(self, stages=[{**stage, "steps": max(1, round(factor * stage["steps"]))} for stage in self.stages])

    def training_batches(self) -> list[Batch]:
        return [self.batch_of(stage["lists"], stage["steps"]) for stage in self.stages]

    def batch_of(self, shapes: list[dict], repeats: int) -> Batch:
        """Lists by their shares of a batch's tokens, the longest first; the shortest take what is left, so that all batches of a
        stage are equal in shape and the next one begins where a batch is full."""
        lists = []
        left = self.batch_tokens
        for number, shape in enumerate(sorted(shapes, key=lambda shape: -shape["docs"])):
            one = Lists(1, shape["docs"], shape["query_facts"], shape.get("copy_weight", 0.0), shape.get("hint_weight", 0.0))
            is_last = number + 1 == len(shapes)
            tokens = left if is_last else int(shape["share"] * self.batch_tokens)
            lists.append(dataclasses.replace(one, prompts=tokens // one.num_tokens(self.language)))
            left -= lists[-1].prompts * one.num_tokens(self.language)
        return Batch(tuple(lists), repeats)

    def evaluation_batches(self, docs: int, prompts: int) -> list[Batch]:
        return [Batch((Lists(1, docs, self.evaluation.get("query_facts", 3)),), prompts)]


def read_arms() -> dict[str, Arm]:
    tables = tomllib.loads((FOLDER / "arms.toml").read_text())
    return {name: Arm(name, **{**table, "losses": tuple(table["losses"])}) for name, table in tables.items()}


def read_scale(name: str) -> Scale:
    tables = tomllib.loads((FOLDER / "scales.toml").read_text())
    if name not in tables:
        raise SystemExit(f"--scale: expected one of {', '.join(tables)}, found {name}")
    table = tables[name]
    return Scale(name=name, **{**table, "language": Language(**table["language"])})


def write_form(path: pathlib.Path, arm: Arm, seed: int, language: Language, batches: list[Batch], order: int = 0) -> pathlib.Path:
    """Prompts as an arm reads them, below `path`, unless they are there."""
    target = path / arm.data
    if not target.exists():
        if arm.attention == "causal":
            without_array(write_block(path, seed, language, batches, Form(order=order)), "positions", target)
        else:
            write_prompts(target, seed, language, batches, Form(arm.query_first, order))
    return target


def write_block(path: pathlib.Path, seed: int, language: Language, batches: list[Batch], form: Form) -> pathlib.Path:
    target = path / "block"
    if not target.exists():
        write_prompts(target, seed, language, batches, form)
    return target


def write_training_data(path: pathlib.Path, arm: Arm, seed: int, scale: Scale) -> pathlib.Path:
    return write_form(path / f"seed-{seed}", arm, seed, scale.language, scale.training_batches())


def write_evaluation_data(path: pathlib.Path, arm: Arm, scale: Scale) -> dict[str, pathlib.Path]:
    """By name: "docs-30" for the lists of 30, "order-2" for the third order of the same lists. All arms get the same prompts."""
    folders = {}
    for docs, prompts in scale.evaluation["docs"].items():
        batches = scale.evaluation_batches(int(docs), prompts)
        folders[f"docs-{docs}"] = write_form(path / f"docs-{docs}", arm, EVALUATION_SEED, scale.language, batches)
    batches = scale.evaluation_batches(scale.evaluation["order_docs"], scale.evaluation["order_prompts"])
    for order in range(scale.evaluation["orders"]):
        name = f"order-{order}"
        folders[name] = write_form(path / name, arm, EVALUATION_SEED + 1, scale.language, batches, order)
    return folders


def train_config(arm: Arm, seed: int, scale: Scale, data: pathlib.Path, out: pathlib.Path, device: str, threads: int) -> dict:
    """The tables of a configuration of `perpend train`."""
    kinds = {
        "next_token": {"kind": "next_token"},
        "blockrank": {"kind": "blockrank", "layer": scale.layer, "tau": TAU, "weight": AUXILIARY_WEIGHT if len(arm.losses) > 1 else 1.0},
    }
    longest = scale.language.doc_tokens * max(scale.list_lengths) + 64
    return {
        "out": str(out),
        "steps": scale.steps,
        "seed": seed,
        "device": device,
        "threads": threads,
        "log_every": 10,
        "model": {
            "layers": arm.mask,
            "shape": {
                "vocab_size": scale.language.vocab_size,
                # Lists of any length have ordinary positions, too.
                "max_position_embeddings": max(2 * scale.language.query_position, longest),
                "rope_theta": 1e6,
                **scale.model,
            },
        },
        "data": {"path": str(data), "batch_tokens": scale.batch_tokens, "shuffle": False},
        "optimizer": {
            "learning_rate": scale.learning_rate,
            "final_learning_rate": scale.learning_rate / 10,
            "warmup_steps": min(50, scale.steps // 10),
            "beta2": 0.98,
        },
        "loss": [kinds[name] for name in arm.losses],
    }
