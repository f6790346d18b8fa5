"""Small random models as Hugging Face folders, their tokenizers trained here, for tests."""

import functools
import json
import pathlib
import sys

import gguf
import numpy as np
import safetensors
from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "io"))
from random_text import TORTURE  # noqa: E402
from tokenizer_families import FAMILIES, all_merges  # noqa: E402

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
HEAD_DIM = 32
NUM_TOKENS = 1500  # of the byte-level vocabularies
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@functools.cache
def trained(family: str) -> str:
    # A text that nobody edits: other tokens would be other cases of every test.
    texts = [*TORTURE, (pathlib.Path(__file__).parents[2] / "LICENSE").read_text()]
    description = json.loads(FAMILIES[family](texts).to_str())
    if family == "llama2":
        # As converted from SentencePiece: all merges that the vocabulary allows, the best token first, and bytes that
        # are no special tokens.
        special = {token["content"] for token in description["added_tokens"]}
        made = {t: i for t, i in description["model"]["vocab"].items() if t not in special}
        description["model"]["merges"] = all_merges(made)
        description["added_tokens"] = description["added_tokens"][:3]
    return json.dumps(description)


def train_tokenizer(family: str) -> Tokenizer:
    return Tokenizer.from_str(trained(family))


def encoded(values: np.ndarray, dtype: str) -> bytes:
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    return gguf.quants.quantize(values, kind).tobytes()


def decoded(data: bytes, dtype: str, shape) -> np.ndarray:
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    raw = np.frombuffer(data, np.uint8).reshape(*shape[:-1], -1)
    return gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(shape)


class TinyModel:
    """Config and random f32 weights of a model whose values its dtype can hold."""

    def __init__(
        self, seed, architecture="llama", *, tied=False, biases=False, rows=NUM_TOKENS, dtype="f32", rope=None
    ):
        self.dtype = dtype
        self.config = {
            "architectures": ["Model"],
            "model_type": architecture,
            "hidden_act": "silu",
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 5000.0,
            "rope_scaling": rope,
            "tie_word_embeddings": tied,
            "vocab_size": rows,
        }
        rng = np.random.default_rng(seed)
        self.tensors = {}
        for name, shape in self.shapes(tied, biases):
            values = rng.normal(1 if "norm" in name else 0, 0.3, shape).astype(np.float32)
            # No row of a token that the vocabulary lacks wins.
            values[NUM_TOKENS:] = 0
            self.tensors[name] = decoded(encoded(values, dtype), dtype, shape)

    def shapes(self, tied, biases):
        dim, ffn, rows = (self.config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
        q_dim = self.config["num_attention_heads"] * HEAD_DIM
        kv_dim = self.config["num_key_value_heads"] * HEAD_DIM
        yield "model.embed_tokens.weight", (rows, dim)
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (dim,)
            for name, size in (("q", q_dim), ("k", kv_dim), ("v", kv_dim)):
                yield prefix + f"self_attn.{name}_proj.weight", (size, dim)
                if biases:
                    yield prefix + f"self_attn.{name}_proj.bias", (size,)
            yield prefix + "self_attn.o_proj.weight", (dim, q_dim)
            yield prefix + "post_attention_layernorm.weight", (dim,)
            yield prefix + "mlp.gate_proj.weight", (ffn, dim)
            yield prefix + "mlp.up_proj.weight", (ffn, dim)
            yield prefix + "mlp.down_proj.weight", (dim, ffn)
        yield "model.norm.weight", (dim,)
        if not tied:
            yield "lm_head.weight", (rows, dim)

    def save(self, folder: pathlib.Path, tokenizer, *, shards=1, tokenizer_config=None) -> pathlib.Path:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self.config))
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config or {}))
        names = list(self.tensors)
        parts = [names[i::shards] for i in range(shards)]
        files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        if shards == 1:
            files = ["model.safetensors"]
        else:
            index = {name: file for file, part in zip(files, parts) for name in part}
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        for file, part in zip(files, parts):
            write_safetensors(folder / file, {name: self.tensors[name] for name in part}, self.dtype)
        return folder


def write_safetensors(path: pathlib.Path, tensors: dict, dtype: str) -> None:
    buffers = {name: np.frombuffer(encoded(values, dtype), np.uint8) for name, values in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=DTYPES[dtype], shape=list(tensors[name].shape), data_ptr=data.ctypes.data, data_len=data.size
        )
        for name, data in buffers.items()
    }
    path.write_bytes(safetensors.serialize(specs, {"format": "pt"}))


def read_safetensors(folder: pathlib.Path) -> dict:
    """Name -> (dtype, values) of all shards."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in safetensors.deserialize(path.read_bytes()):
            dtype = tensor["dtype"].lower()
            tensors[name] = (dtype, decoded(bytes(tensor["data"]), dtype, tensor["shape"]))
    return tensors
