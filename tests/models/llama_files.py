"""Writes models of the Llama family with the reference packages. Weights go by the reference's names."""

import json
import pathlib

import gguf
import numpy as np
import safetensors
from llama_reference import Sizes, frequencies

HUGGING_FACE = {
    "embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
GGUF = {
    "embedding": "token_embd",
    "final_norm": "output_norm",
    "head": "output",
    "attention_norm": "attn_norm",
    "mlp_norm": "ffn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def file_name(name: str, names: dict[str, str], layers: str) -> str:
    """1.q.bias -> model.layers.1.self_attn.q_proj.bias"""
    suffix = "bias" if name.endswith(".bias") else "weight"
    *layer, role = name.removesuffix(".bias").split(".")
    prefix = f"{layers}.{layer[0]}." if layer else ""
    return f"{prefix}{names[role]}.{suffix}"


def config_of(sizes: Sizes, model_type: str) -> dict:
    config = {
        "model_type": model_type,
        "vocab_size": sizes.vocab,
        "hidden_size": sizes.dim,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "max_position_embeddings": sizes.context,
        "rms_norm_eps": sizes.epsilon,
        "rope_theta": sizes.theta,
        "tie_word_embeddings": sizes.tied,
        "hidden_act": "silu",
    }
    if sizes.head_dim * sizes.heads != sizes.dim:
        config["head_dim"] = sizes.head_dim
    if sizes.scaling:
        config["rope_scaling"] = sizes.scaling
    return config


def stored(values: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """What a file of that dtype holds, and the values that this stands for."""
    if dtype == "bfloat16":
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    array = values.astype(dtype)
    return array, array.astype(np.float32)


def write_shard(path: pathlib.Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    content = {
        name: safetensors.TensorSpec(
            dtype=dtype, shape=list(array.shape), data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, array in tensors.items()
    }
    path.write_bytes(safetensors.serialize(content, {"format": "pt"}))


def write_hugging_face(
    folder: pathlib.Path, sizes: Sizes, weights: dict, model_type: str, dtype: str = "float32", shards: int = 1, **config
) -> dict[str, np.ndarray]:
    """A folder with weights in `dtype`, dealt out to `shards` files. Returns the weights as stored."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(sizes, model_type) | config))
    kept, files, index = {}, [{} for _ in range(shards)], {}
    for i, (name, values) in enumerate(weights.items()):
        tensor = file_name(name, HUGGING_FACE, "model.layers")
        files[i % shards][tensor], kept[name] = stored(values, dtype)
        index[tensor] = f"model-{i % shards + 1:05}-of-{shards:05}.safetensors"
    if shards == 1:
        write_shard(folder / "model.safetensors", files[0], dtype)
        return kept
    for shard, name in zip(files, sorted(set(index.values()))):
        write_shard(folder / name, shard, dtype)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return kept


def interleaved(values: np.ndarray, sizes: Sizes) -> np.ndarray:
    """Rows of q or k in the order of GGUF's "llama": the two values that turn together side by side."""
    rows = values.reshape(-1, sizes.head_dim, *values.shape[1:])
    half = sizes.rotary_dim // 2
    order = [i // 2 + (i % 2) * half for i in range(2 * half)] + list(range(2 * half, sizes.head_dim))
    return rows[:, order].reshape(values.shape)


def write_gguf(
    path: pathlib.Path, sizes: Sizes, weights: dict, architecture: str, formats: tuple[str, ...] = ("F32",)
) -> dict[str, np.ndarray]:
    """A file whose matrices take `formats` by turns. Returns the weights as stored."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.dim)
    writer.add_feed_forward_length(sizes.ffn)
    writer.add_block_count(sizes.layers)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_rope_dimension_count(sizes.rotary_dim)
    writer.add_rope_freq_base(sizes.theta)
    writer.add_layer_norm_rms_eps(sizes.epsilon)
    scaling = sizes.scaling or {}
    if scaling.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif scaling:
        plain = frequencies(Sizes(head_dim=sizes.rotary_dim, theta=sizes.theta))
        writer.add_tensor("rope_freqs.weight", (plain / frequencies(sizes)).astype(np.float32))
    kept = {}
    for i, (name, values) in enumerate(weights.items()):
        kind = gguf.GGMLQuantizationType[formats[i % len(formats)] if values.ndim == 2 else "F32"]
        quantized = gguf.quants.quantize(values, kind)
        kept[name] = gguf.quants.dequantize(quantized, kind)
        if architecture == "llama" and name.removesuffix(".bias").split(".")[-1] in "qk":
            # Quantised rows move whole.
            quantized = interleaved(quantized, sizes)
        writer.add_tensor(file_name(name, GGUF, "blk"), quantized, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept
