#!/usr/bin/env python3
"""Packs what was trained into int8, as assets/ keeps it: an adapter, or what whole training changed, of rank 64.

    experiments/block-diffusion/pack_adapter.py runs/blocks/seed-1/block/adapter assets/smollm2-diffusion --sub-block 4
    experiments/block-diffusion/pack_adapter.py runs/blocks/seed-1/block-whole/model out --base base --rank 64

`base` is a Hugging Face folder of the model that training began with, in the type that it was trained in (perpend convert
writes one of a GGUF file). Each row of a matrix is stored as whole numbers from -127 to 127 and a factor. Before, the
components of each pair are scaled so that all of them weigh the same in lora_B: the factors of lora_A's rows take up the rest.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from safetensors_file import read_folder, write_shards

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
DOWN, UP, PREFIX = ".lora_A.weight", ".lora_B.weight", "base_model.model."
TOKEN_ROWS = PREFIX + "model.embed_tokens.token_adapter.trainable_tokens_delta"
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FILE_BYTES, ALL_BYTES = 10 << 20, 20 << 20


def balanced(down: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product, all columns of `up` of one size."""
    sizes = np.sqrt(np.mean(np.square(up, dtype=np.float64), axis=0)).astype(np.float32)
    sizes[sizes == 0] = 1
    return down * sizes[:, None], up / sizes


def quantized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8, f32 factors [rows])"""
    factors = np.abs(values).max(axis=1).astype(np.float32) / 127
    safe = np.where(factors > 0, factors, 1)[:, None]
    return np.rint(values / safe).astype(np.int8), factors


def pairs_of_adapter(folder: pathlib.Path) -> tuple[dict, dict, np.ndarray | None]:
    """(matrix -> (down, up), configuration, rows of tokens)"""
    tensors = read_folder(folder, TENSORS)
    pairs = {}
    for name in tensors:
        if name.endswith(DOWN):
            matrix = name.removesuffix(DOWN)
            pairs[matrix] = tensors[name].astype(np.float32), tensors[matrix + UP].astype(np.float32)
    return pairs, json.loads((folder / CONFIG).read_text()), tensors.get(TOKEN_ROWS)


def pairs_of_change(model: pathlib.Path, base: pathlib.Path, rank: int) -> tuple[dict, dict, np.ndarray | None]:
    """The best of that rank (singular values), of all matrices of layers."""
    tuned, before = read_folder(model, "model.safetensors"), read_folder(base, "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    pairs = {}
    for name in tuned:
        matrix = name.removesuffix(".weight")
        if matrix.rsplit(".", 1)[-1] not in MATRICES:
            continue
        u, s, v = np.linalg.svd(tuned[name].astype(np.float64) - before[name], full_matrices=False)
        # A thin matrix has fewer components than the rank that all pairs share.
        root = np.zeros(rank)
        root[: len(s)] = np.sqrt(s[:rank])
        down, up = np.zeros((rank, v.shape[1])), np.zeros((u.shape[0], rank))
        down[: len(s)], up[:, : len(s)] = v[:rank], u[:, :rank]
        pairs[PREFIX + matrix] = (root[:, None] * down).astype(np.float32), (up * root).astype(np.float32)
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": float(rank), "bias": "none"}
    adapter |= {"base_model_name_or_path": str(base), "target_modules": MATRICES, "inference_mode": True}
    row = None
    if diffusion := config.get("diffusion"):
        token = diffusion["mask_token_id"]
        adapter |= {"diffusion": diffusion, "trainable_token_indices": {"embed_tokens": [token]}}
        row = tuned["model.embed_tokens.weight"][token : token + 1]
    return pairs, adapter, row


def pack(pairs: dict, config: dict, token_rows: np.ndarray | None, base: str, out: pathlib.Path) -> list[pathlib.Path]:
    tensors = {}
    for matrix, pair in pairs.items():
        for suffix, values in zip((DOWN, UP), balanced(*pair)):
            name = matrix + suffix
            tensors[name], tensors[f"{name}.scale"] = quantized(values)
    if token_rows is not None:
        tensors[TOKEN_ROWS] = token_rows.astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("adapter_model*"):
        old.unlink()
    files = write_shards(out, TENSORS, tensors, FILE_BYTES)
    (out / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": base}, indent=2, sort_keys=True) + "\n")
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=pathlib.Path, help="folder of an adapter or, with --base, of a model")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--base", type=pathlib.Path)
    parser.add_argument("--rank", type=int, default=64, help="with --base")
    parser.add_argument("--sub-block", type=int, help="in which a diffusion model decodes unless told otherwise")
    parser.add_argument("--base-name", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="that is written down")
    options = parser.parse_args()
    of_change = (options.trained, options.base, options.rank)
    pairs, config, token_rows = pairs_of_change(*of_change) if options.base else pairs_of_adapter(options.trained)
    if options.sub_block:
        config["diffusion"]["sub_block_size"] = options.sub_block
    files = pack(pairs, config, token_rows, options.base_name, options.out)
    sizes = [file.stat().st_size for file in files]
    print(f"{options.out}: {len(pairs)} matrices, {', '.join(map(str, sizes))} bytes")
    if max(sizes) > FILE_BYTES or sum(sizes) > ALL_BYTES:
        print(f"expected at most {FILE_BYTES} bytes a file and {ALL_BYTES} in all", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
