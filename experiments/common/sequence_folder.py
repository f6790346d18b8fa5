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
        self.ends = {"indptr": [np.zeros(1, np.int64)]}

    def add(self, tokens: np.ndarray, arrays: dict[str, np.ndarray], lists: dict[str, np.ndarray]) -> None:
        """`tokens` and each of `arrays`: [sequences, length]; each of `lists`: [sequences, values]."""
        self.names = [*arrays, *lists]
        self._append("tokens", tokens)
        self._end("indptr", *tokens.shape)
        for name, values in arrays.items():
            self._append(name, np.broadcast_to(values, tokens.shape))
        for name, values in lists.items():
            self._append(name, values)
            self._end(f"{name}.indptr", *values.shape)

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

    def _end(self, name: str, count: int, length: int) -> None:
        parts = self.ends.setdefault(name, [np.zeros(1, np.int64)])
        parts.append(parts[-1][-1] + length * np.arange(1, count + 1, dtype=np.int64))


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
