"""Tiny random twins of published diffusion language models: folders with their keys and tensor names."""

import json
import pathlib

import numpy as np
from llama_files import write_shard

MASK, STOP = 58, 57  # of the twins
VOCAB = 61


def qwen_names(layers: int, biases: tuple[str, ...], tied: bool) -> dict[str, tuple[str, str]]:
    names = {"model.embed_tokens.weight": ("vocab", "dim"), "model.norm.weight": ("dim",)}
    if not tied:
        names["lm_head.weight"] = ("vocab", "dim")
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        names |= {prefix + f"{norm}.weight": ("dim",) for norm in ("input_layernorm", "post_attention_layernorm")}
        for name, out, inner in (("q", "q", "dim"), ("k", "kv", "dim"), ("v", "kv", "dim"), ("o", "dim", "q")):
            names[prefix + f"self_attn.{name}_proj.weight"] = (out, inner)
            if name in biases:
                names[prefix + f"self_attn.{name}_proj.bias"] = (out,)
        names |= {prefix + f"mlp.{name}_proj.weight": ("ffn", "dim") for name in ("gate", "up")}
        names[prefix + "mlp.down_proj.weight"] = ("dim", "ffn")
    return names


def llada_names(layers: int) -> dict[str, tuple[str, ...]]:
    names = {
        "model.transformer.wte.weight": ("vocab", "dim"),
        "model.transformer.ln_f.weight": ("dim",),
        "model.transformer.ff_out.weight": ("vocab", "dim"),
    }
    for layer in range(layers):
        prefix = f"model.transformer.blocks.{layer}."
        names |= {prefix + f"{norm}.weight": ("dim",) for norm in ("attn_norm", "ff_norm")}
        names |= {prefix + f"{name}.weight": ("q", "dim") for name in ("q_proj", "k_proj", "v_proj", "attn_out")}
        names |= {prefix + f"{name}.weight": ("ffn", "dim") for name in ("ff_proj", "up_proj")}
        names[prefix + "ff_out.weight"] = ("dim", "ffn")
    return names


def usual_config(model_type: str, kv_heads: int, **more) -> dict:
    return {
        "model_type": model_type,
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 256,
        "hidden_act": "silu",
        "eos_token_id": STOP,
    } | more


def fast_dllm(tied: bool = False) -> tuple[dict, dict]:
    more = {"bd_size": 8, "conplemenrary_mask": True, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": tied}
    more |= {"architectures": ["Fast_dLLM_QwenForCausalLM"], "use_sliding_window": False, "mask_token_id": MASK}
    return usual_config("Fast_dLLM_Qwen", 2, **more), qwen_names(2, ("q", "k", "v"), tied)


def nbdiff() -> tuple[dict, dict]:
    more = {"bias": True, "rms_norm_eps": 1e-5, "rope_theta": 1.6e7, "tie_word_embeddings": False, "mask_token_id": MASK}
    return usual_config("PanguEmbedded", 2, **more), qwen_names(2, ("q", "k", "v", "o"), False)


def dream() -> tuple[dict, dict]:
    more = {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False, "mask_token_id": MASK}
    return usual_config("Dream", 2, **more), qwen_names(2, ("q", "k", "v"), False)


def llada() -> tuple[dict, dict]:
    config = {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "d_model": 24,
        "n_heads": 4,
        "n_kv_heads": 4,
        "n_layers": 2,
        "mlp_hidden_size": 40,
        "vocab_size": VOCAB,
        "embedding_size": VOCAB,
        "max_sequence_length": 256,
        "rms_norm_eps": 1e-5,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": 500000.0,
        "activation_type": "silu",
        "block_type": "llama",
        "block_group_size": 1,
        "weight_tying": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "layer_norm_type": "rms",
        "attention_layer_norm": False,
        "mask_token_id": MASK,
        "eos_token_id": STOP,
        "pad_token_id": STOP,
    }
    return config, llada_names(2)


FAMILIES = {"fast_dllm": fast_dllm, "nbdiff": nbdiff, "dream": dream, "llada": llada}


def write_twin(
    folder: pathlib.Path, family: str, rng: np.random.Generator, **changes
) -> tuple[dict, dict[str, np.ndarray]]:
    """The config and the f32 tensors of the folder, by their published names."""
    config, names = FAMILIES[family]()
    config |= changes
    heads = config.get("num_attention_heads", config.get("n_heads"))
    dim = config.get("hidden_size", config.get("d_model"))
    kv_heads = config.get("num_key_value_heads", config.get("n_kv_heads"))
    sizes = {"vocab": VOCAB, "dim": dim, "ffn": 40, "q": dim, "kv": dim // heads * kv_heads}
    tensors = {}
    for name, shape in names.items():
        values = rng.standard_normal([sizes[axis] for axis in shape])
        is_norm = "norm" in name or name.endswith("ln_f.weight")
        tensors[name] = (1 + 0.3 * values if is_norm else 0.4 * values).astype(np.float32)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_shard(folder / "model.safetensors", tensors, "float32")
    return config, tensors
