"""Holds reading and writing of GGUF files against PyPI gguf: metadata, shapes and values, both ways."""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

TOOL = sys.argv[1]
FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
NUMBERS = {  # our name: (gguf's name, numpy type, extreme values)
    "u8": ("UINT8", np.uint8, [0, 255]),
    "i8": ("INT8", np.int8, [-128, 127]),
    "u16": ("UINT16", np.uint16, [0, 65535]),
    "i16": ("INT16", np.int16, [-32768, 32767]),
    "u32": ("UINT32", np.uint32, [0, 2**32 - 1]),
    "i32": ("INT32", np.int32, [-(2**31), 2**31 - 1]),
    "u64": ("UINT64", np.uint64, [0, 2**64 - 1]),
    "i64": ("INT64", np.int64, [-(2**63), 2**63 - 1]),
    "f32": ("FLOAT32", np.float32, [float(np.float32(v)) for v in (-0.0, 1e-45, 0.1, 3.4028234663852886e38)]),
    "f64": ("FLOAT64", np.float64, [-0.0, 5e-324, 0.1, 1.7976931348623157e308]),
    "bool": ("BOOL", np.bool_, [False, True]),
}
STRINGS = ["a", "two words", "Ġnaïve 漢字 \U0001f600", 'quote " and \\ and \n', "x" * 5000]


def metadata_entries() -> list[dict]:
    entries = [{"key": "general.architecture", "type": "string", "value": "test"}]
    for name, (_, _, values) in NUMBERS.items():
        entries += [{"key": f"{name}.{i}", "type": name, "value": v} for i, v in enumerate(values)]
        entries.append({"key": f"{name}.array", "type": name, "values": values * 3})
    entries += [{"key": f"string.{i}", "type": "string", "value": v} for i, v in enumerate(STRINGS)]
    entries.append({"key": "string.array", "type": "string", "values": ["", *STRINGS]})
    return entries


def random_tensors(rng: np.random.Generator) -> list[dict]:
    """One to four dimensions of every format; sizes that leave padding of many lengths."""
    tensors = []
    for name in FORMATS:
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
        for shape in ([3], [5, 2], [2, 3, 1], [2, 1, 3, 2]):
            shape = [*shape[:-1], shape[-1] * block_size]
            count = int(np.prod(shape)) // block_size * block_bytes
            data = rng.integers(0, 256, size=count, dtype=np.uint8).tobytes()
            tensors.append({"name": f"{name}.{len(shape)}", "format": name, "shape": shape, "data": data})
    return tensors


def write_reference(path: pathlib.Path, entries: list[dict], tensors: list[dict], alignment: int) -> None:
    writer = gguf.GGUFWriter(path, "test")
    for entry in entries[1:]:
        kind = gguf.GGUFValueType[NUMBERS.get(entry["type"], ("STRING",))[0]]
        if "values" in entry:
            writer.add_key_value(entry["key"], entry["values"], gguf.GGUFValueType.ARRAY, kind)
        else:
            writer.add_key_value(entry["key"], entry["value"], kind)
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor["format"]]
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row = tensor["shape"][-1] // block_size * block_bytes
        raw = np.frombuffer(tensor["data"], np.uint8).reshape(*tensor["shape"][:-1], row)
        writer.add_tensor(tensor["name"], raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_ours(path: pathlib.Path, entries: list[dict], tensors: list[dict], alignment: int) -> None:
    if alignment != 32:
        entries = [*entries, {"key": "general.alignment", "type": "u32", "value": alignment}]
    spec = path.with_suffix(".json")
    described = [
        {"name": t["name"], "format": t["format"].lower(), "shape": t["shape"], "hex": t["data"].hex()}
        for t in tensors
    ]
    spec.write_text(json.dumps({"metadata": entries, "tensors": described}))
    subprocess.run([TOOL, "write", spec, path], check=True)


def expected_values(tensor: dict) -> np.ndarray:
    raw = np.frombuffer(tensor["data"], np.uint8)
    kind = gguf.GGMLQuantizationType[tensor["format"]]
    return gguf.quants.dequantize(raw, kind).astype(np.float32).ravel()


def check_read(path: pathlib.Path, entries: list[dict], tensors: list[dict]) -> None:
    """A file of theirs, read by ours."""
    found = json.loads(subprocess.run([TOOL, "describe", path], stdout=subprocess.PIPE, check=True).stdout)
    assert found["version"] == 3
    for entry in entries:
        value = found["metadata"][entry["key"]]
        if "value" in entry:
            assert value == entry["value"], entry["key"]
            continue
        assert (value["type"], value["count"]) == (entry["type"], len(entry["values"])), entry["key"]
        if "hex" in value:
            expected = np.array(entry["values"], NUMBERS[entry["type"]][1]).tobytes().hex()
            assert value["hex"] == expected, entry["key"]
        else:
            assert value["values"] == entry["values"], entry["key"]
    assert [(t["name"], t["format"].upper(), t["shape"]) for t in found["tensors"]] == [
        (t["name"], t["format"], t["shape"]) for t in tensors
    ]
    values = subprocess.run([TOOL, "values", path], stdout=subprocess.PIPE, check=True).stdout
    found_values = np.frombuffer(values, np.float32)
    expected = np.concatenate([expected_values(t) for t in tensors])
    same = (found_values.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(found_values) & np.isnan(expected))
    assert same.all(), f"{(~same).sum()} values differ"


def check_written(path: pathlib.Path, entries: list[dict], tensors: list[dict]) -> None:
    """A file of ours, read by theirs."""
    reader = gguf.GGUFReader(path)
    for entry in entries:
        field = reader.fields[entry["key"]]
        kind = gguf.GGUFValueType[NUMBERS.get(entry["type"], ("STRING",))[0]]
        assert field.types[-1] == kind, entry["key"]
        expected = entry["values"] if "values" in entry else entry["value"]
        assert field.contents() == expected, entry["key"]
    assert len(reader.tensors) == len(tensors)
    for found, tensor in zip(reader.tensors, tensors):
        assert found.name == tensor["name"]
        assert found.tensor_type == gguf.GGMLQuantizationType[tensor["format"]], found.name
        assert [int(n) for n in reversed(found.shape)] == tensor["shape"], found.name
        assert found.data.tobytes() == tensor["data"], found.name


def main() -> None:
    seed = 20260102
    print("seed", seed)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for alignment in (8, 32, 4096):
            entries, tensors = metadata_entries(), random_tensors(rng)
            theirs, ours, copied = (pathlib.Path(folder) / f"{n}.gguf" for n in ("theirs", "ours", "copied"))
            write_reference(theirs, entries, tensors, alignment)
            write_ours(ours, entries, tensors, alignment)
            subprocess.run([TOOL, "copy", theirs, copied], check=True)
            check_read(theirs, entries, tensors)
            check_written(ours, entries, tensors)
            assert ours.read_bytes() == theirs.read_bytes(), "written files differ"
            assert copied.read_bytes() == theirs.read_bytes(), "copied files differ"
    print(f"{len(entries)} metadata entries and {len(tensors)} tensors agree, alignments 8, 32 and 4096")


main()
