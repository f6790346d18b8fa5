"""Reads and writes .safetensors files, needing numpy alone."""

import json
import os
import pathlib
import struct

import numpy as np

TYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "I8": np.dtype(np.int8), "BF16": np.dtype(np.uint16)}


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors by name; those of bf16 as f32."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in TYPES:
            raise ValueError(f"{path}: tensor {name!r}: expected one of {', '.join(TYPES)}, found {entry['dtype']}")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def read_folder(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    """Of `name`, or of the shards that its index lists."""
    index = folder / f"{name}.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else [name]
    return {key: value for file in files for key, value in read_safetensors(folder / file).items()}


def write_safetensors(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Of f32, f16 and int8. The file appears whole or not at all."""
    names = {dtype: name for name, dtype in TYPES.items() if name != "BF16"}
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, values in tensors.items():
        header[name] = {"dtype": names[values.dtype], "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    staging = path.with_name(path.name + ".tmp")
    with open(staging, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())
    os.replace(staging, path)


def write_shards(folder: pathlib.Path, name: str, tensors: dict[str, np.ndarray], most_bytes: int) -> list[pathlib.Path]:
    """One file `name`, or as many as are needed for none to pass `most_bytes`, with an index."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for key, values in tensors.items():
        needed = values.nbytes + len(key) + 96  # of its header
        if shards[-1] and size + needed > most_bytes - 1024:
            shards.append({})
            size = 0
        shards[-1][key] = values
        size += needed
    if len(shards) == 1:
        write_safetensors(folder / name, tensors)
        return [folder / name]
    stem = name.removesuffix(".safetensors")
    names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for shard_name, shard in zip(names, shards):
        write_safetensors(folder / shard_name, shard)
    index = {"weight_map": {key: shard_name for shard_name, shard in zip(names, shards) for key in shard}}
    (folder / f"{name}.index.json").write_text(json.dumps(index, indent=0) + "\n")
    return [folder / shard_name for shard_name in names]
