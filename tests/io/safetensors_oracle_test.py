"""Holds reading and writing of safetensors files against PyPI safetensors, both ways."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors

TOOL = sys.argv[1]
WEIGHTS = {"f32": ("F32", "float32", 4), "f16": ("F16", "float16", 2), "bf16": ("BF16", "bfloat16", 2)}
OTHERS = {  # dtypes that are no weights of ours, with bytes an element
    **{name: 8 for name in ("float64", "int64", "uint64", "complex64")},
    **{name: 4 for name in ("int32", "uint32")},
    **{name: 2 for name in ("int16", "uint16")},
    **{name: 1 for name in ("int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu")},
    **{name: 1 for name in ("float8_e4m3fnuz", "float8_e5m2fnuz")},
}
SHAPES = [[], [0], [1], [7], [3, 5], [2, 0, 3], [2, 3, 4, 1, 2]]
METADATA = {"format": "pt", "naïve": 'quote " and \\', "empty": ""}


def random_tensors(rng: np.random.Generator) -> list[dict]:
    tensors = []
    for name, (_, _, size) in WEIGHTS.items():
        for i, shape in enumerate(SHAPES):
            data = rng.integers(0, 256, size=int(np.prod(shape)) * size, dtype=np.uint8).tobytes()
            tensors.append({"name": f"层.{name}.{i}", "format": name, "shape": shape, "data": data})
    return tensors


def values_of(tensor: dict) -> np.ndarray:
    if tensor["format"] == "bf16":
        return (np.frombuffer(tensor["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(tensor["data"], WEIGHTS[tensor["format"]][1]).astype(np.float32)


def run(*arguments: object) -> bytes:
    return subprocess.run([TOOL, *map(str, arguments)], stdout=subprocess.PIPE, check=True).stdout


def check_values(found: bytes, tensors: list[dict]) -> None:
    values = np.frombuffer(found, np.float32)
    expected = np.concatenate([values_of(t) for t in tensors])
    assert values.size == expected.size
    same = (values.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(values) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} values differ"


def check_read(path: pathlib.Path, tensors: list[dict]) -> None:
    """A file of theirs, with tensors that are no weights, read by ours."""
    arrays = {t["name"]: (WEIGHTS[t["format"]][1], t["shape"], np.frombuffer(t["data"], np.uint8)) for t in tensors}
    arrays |= {dtype: (dtype, [2, 3], np.ones(6 * size, np.uint8)) for dtype, size in OTHERS.items()}
    content = {
        name: safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, (dtype, shape, array) in arrays.items()
    }
    path.write_bytes(safetensors.serialize(content, METADATA))
    found = json.loads(run("describe", path))
    assert found["metadata"] == METADATA
    assert sorted(found["other_tensors"]) == sorted(OTHERS)
    by_name = {t["name"]: t for t in tensors}
    for tensor in found["tensors"]:
        expected = by_name[tensor["name"]]
        assert (tensor["format"], tensor["shape"]) == (expected["format"], expected["shape"]), tensor["name"]
    assert len(found["tensors"]) == len(tensors)
    check_values(run("values", path), [by_name[t["name"]] for t in found["tensors"]])


def spec_of(path: pathlib.Path, tensors: list[dict], **options: object) -> pathlib.Path:
    described = [
        {"name": t["name"], "format": t["format"], "shape": t["shape"], "hex": t["data"].hex()} for t in tensors
    ]
    path.write_text(json.dumps({"metadata": METADATA, "tensors": described, **options}))
    return path


def contents_of(path: pathlib.Path) -> dict[str, tuple]:
    with safetensors.safe_open(path, "np") as opened:
        assert opened.metadata() == METADATA
    return {
        name: (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
        for name, tensor in safetensors.deserialize(path.read_bytes())
    }


def check_contents(found: dict[str, tuple], tensors: list[dict]) -> None:
    expected = {t["name"]: (WEIGHTS[t["format"]][0], t["shape"], t["data"]) for t in tensors}
    assert found == expected


def check_written(folder: pathlib.Path, tensors: list[dict]) -> None:
    """A file of ours, read by theirs."""
    path = folder / "ours.safetensors"
    run("write", spec_of(folder / "spec.json", tensors), path)
    check_contents(contents_of(path), tensors)


def check_model(folder: pathlib.Path, tensors: list[dict], max_shard_bytes: int) -> int:
    """A folder of shards of ours, read by both. Returns the number of shards."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    spec = spec_of(folder / "spec.json", tensors, max_shard_bytes=max_shard_bytes)
    run("write-model", spec, folder)
    shards = sorted(folder.glob("*.safetensors"))
    found = {}
    for shard in shards:
        found |= contents_of(shard)
    check_contents(found, tensors)
    index_path = folder / "model.safetensors.index.json"
    assert index_path.exists() == (len(shards) > 1)
    if index_path.exists():
        index = json.loads(index_path.read_text())
        assert index["metadata"]["total_size"] == sum(len(t["data"]) for t in tensors)
        assert {p.name for p in shards} == set(index["weight_map"].values())
        for name, shard in index["weight_map"].items():
            assert name in contents_of(folder / shard)
    check_values(run("values-of-model", folder), sorted(tensors, key=lambda t: t["name"].encode()))
    return len(shards)


def main() -> None:
    seed = 20260103
    print("seed", seed)
    tensors = random_tensors(np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_read(folder / "theirs.safetensors", tensors)
        check_written(folder, tensors)
        assert check_model(folder / "one", tensors, 10**9) == 1
        assert check_model(folder / "some", tensors, 200) > 2
        # Every tensor is larger than a shard.
        assert check_model(folder / "each", [t for t in tensors if t["data"]], 1) == sum(
            bool(t["data"]) for t in tensors
        )
    print(f"{len(tensors)} weights agree, in one file and in shards")


main()
