"""Holds every block format against PyPI gguf: decoding of random bytes and encoding of random values."""

import subprocess
import sys

import gguf
import numpy as np
from campaign import num_trials

TOOL = sys.argv[1]
ENCODED = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
DECODED = ENCODED + ["Q4_K", "Q5_K", "Q6_K"]


def run(direction: str, name: str, data: bytes) -> bytes:
    return subprocess.run(
        [TOOL, direction, name.lower()], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def values_to_encode(rng: np.random.Generator) -> np.ndarray:
    rows = [rng.normal(size=256).astype(np.float32) * np.float32(10.0**e) for e in range(-6, 5)]
    rows += [rng.uniform(-1, 1, size=256).astype(np.float32) for _ in range(num_trials(200))]
    rows += [np.zeros(256, np.float32), np.full(256, 3.0, np.float32), -rows[0] ** 2]
    ramp = np.linspace(-8, 7, 256).astype(np.float32)  # many values on rounding borders
    return np.stack(rows + [ramp, np.round(ramp * 2) / 2])


def check_decode(name: str, rng: np.random.Generator) -> None:
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, size=(500, size * (256 if size < 10 else 8)), dtype=np.uint8)
    expected = gguf.quants.dequantize(raw, kind).astype(np.float32).ravel()
    found = np.frombuffer(run("decode", name, raw.tobytes()), np.float32)
    same = (found.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(found) & np.isnan(expected))
    assert found.size == expected.size and same.all(), f"decode {name}: {(~same).sum()} values differ"


def check_encode(name: str, rng: np.random.Generator) -> None:
    kind = gguf.GGMLQuantizationType[name]
    values = values_to_encode(rng)
    expected = gguf.quants.quantize(values, kind).tobytes()
    found = run("encode", name, values.tobytes())
    assert found == expected, f"encode {name} differs"


def main() -> None:
    seed = 20260101
    print("seed", seed)
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        for name in DECODED:
            check_decode(name, rng)
        for name in ENCODED:
            check_encode(name, rng)
    print("formats agree:", ", ".join(DECODED))


main()
