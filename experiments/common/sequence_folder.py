"""Writes folders of sequences as `perpend train` reads them (docs/training.md), part after part, needing numpy alone."""

import json
import os
import pathlib
import shutil

import numpy as np

TYPES = {"tokens": np.uint16, "targets": np.int32, "weights": np.float32, "positions": np.int32}


class SequenceFolderWriter:
    """A folder that appears whole or not at all. All parts must have the same arrays and lists; tokens must be below 65536."""

    def __init__(self, path: pathlib.Path):
        self.path = pathlib.Path(path)
        self.staging = self.path.with_name(self.path.name + ".tmp")
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)
        self.names: list[str] = []
        self.ends: dict[str, list[np.ndarray]] = {}

    def add(self, tokens: np.ndarray, arrays: dict[str, np.ndarray], lists: dict[str, np.ndarray]) -> None:
        """Sequences of one length: `tokens` and each of `arrays` [sequences, length], each of `lists` [sequences, values]."""

        def flat(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(values), values.shape[1]), values.ravel()

        whole = {name: np.broadcast_to(values, tokens.shape).ravel() for name, values in arrays.items()}
        self.add_ragged(*flat(tokens), whole, {name: flat(values) for name, values in lists.items()})

    def add_ragged(self, lengths: np.ndarray, tokens: np.ndarray, arrays: dict[str, np.ndarray], lists: dict[str, tuple]) -> None:
        """Sequences of such `lengths`: `tokens` and each of `arrays` hold those of all, each of `lists` its lengths and its values."""
        self.names = [*arrays, *lists]
        for name, (counts, values) in {"tokens": (lengths, tokens), **lists}.items():
            if values.size != counts.sum():
                raise ValueError(f"{name}: {values.size} values, the lengths sum up to {counts.sum()}")
            self._append(name, values)
            ends = self.ends.setdefault("indptr" if name == "tokens" else f"{name}.indptr", [np.zeros(1, np.int64)])
            ends.append(ends[-1][-1] + counts.cumsum(dtype=np.int64))
        for name, values in arrays.items():
            if values.size != tokens.size:
                raise ValueError(f"{name}: {values.size} values for {tokens.size} tokens")
            self._append(name, values)

    def finish(self) -> None:
        for name, parts in self.ends.items():
            np.concatenate(parts).tofile(self.staging / f"{name}.bin")
        indptr = self.ends["indptr"]
        header = {
            "format": "perpend-sequences",
            "version": 1,
            "num_sequences": sum(len(part) for part in indptr) - 1,
            "num_tokens": int(indptr[-1][-1]),
            "token_type": "u16",
            "arrays": self.names,
        }
        (self.staging / "dataset.json").write_text(json.dumps(header))
        os.replace(self.staging, self.path)

    def _append(self, name: str, values: np.ndarray) -> None:
        with open(self.staging / f"{name}.bin", "ab") as file:
            np.ascontiguousarray(values, TYPES.get(name, np.int32)).tofile(file)


def without_array(source: pathlib.Path, name: str, target: pathlib.Path) -> None:
    """Makes `target` the same data without one array; the files are links to those of `source`."""
    staging = target.with_name(target.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    header = json.loads((source / "dataset.json").read_text())
    header["arrays"].remove(name)
    for file in source.glob("*.bin"):
        if file.name != f"{name}.bin":
            (staging / file.name).symlink_to(file.resolve())
    (staging / "dataset.json").write_text(json.dumps(header))
    os.replace(staging, target)
