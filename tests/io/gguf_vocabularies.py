"""Writes trained tokenizers as GGUF metadata. Each writer returns the tokenizer that the file stands for."""

import json
import pathlib
import struct

import gguf
from tokenizer_families import all_merges
from tokenizers import Tokenizer

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
SPACE = "\u2581"


def parts_of(tokenizer):
    description = json.loads(tokenizer.to_str())
    vocab = description["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    special = {token["content"] for token in description["added_tokens"] if token["special"]}
    return description, tokens, special


def write(path, model, tokens, types, fill):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gpt2(pre):
    def write_tokenizer(tokenizer, path):
        description, tokens, special = parts_of(tokenizer)

        def fill(writer):
            writer.add_tokenizer_pre(pre)
            writer.add_token_merges([" ".join(pair) for pair in description["model"]["merges"]])
            writer.add_bos_token_id(0)

        write(path, "gpt2", tokens, [CONTROL if token in special else NORMAL for token in tokens], fill)
        return tokenizer

    return write_tokenizer


def llama_types(tokens):
    types = []
    for token in tokens:
        is_byte = token.startswith("<0x") and len(token) == 6
        types.append(UNKNOWN if token == "<unk>" else CONTROL if token in ("<s>", "</s>") else BYTE if is_byte else NORMAL)
    return types


def varint(value):
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def field(number, content):
    """Of a protocol buffer: an integer, a float, or bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def write_sentencepiece(tokenizer, path):
    _, tokens, _ = parts_of(tokenizer)
    write_pieces(path, tokens)
    return joined_by_score(tokenizer)


def write_pieces(path, tokens):
    """A tokenizer.model: pieces (1) of text (1), score (2) and type (3), trainer (2) and normalizer (3)."""
    types = llama_types(tokens)
    model = b""
    for i, (token, kind) in enumerate(zip(tokens, types)):
        piece = field(1, token.encode()) + field(2, -float(i)) + (field(3, kind) if kind != NORMAL else b"")
        model += field(1, piece)
    model += field(2, field(3, 2) + field(4, 32000) + field(40, 0) + field(41, 1) + field(42, 2))
    model += field(3, field(1, b"identity") + field(3, 1) + field(4, 0))
    pathlib.Path(path).write_bytes(model)


def write_llama(tokenizer, path):
    _, tokens, _ = parts_of(tokenizer)
    types = llama_types(tokens)

    def fill(writer):
        writer.add_token_scores([-float(i) for i in range(len(tokens))])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)

    write(path, "llama", tokens, types, fill)
    return joined_by_score(tokenizer)


def joined_by_score(tokenizer):
    description, tokens, _ = parts_of(tokenizer)
    types = llama_types(tokens)
    vocab = description["model"]["vocab"]
    made = {token: id for token, id in vocab.items() if types[id] == NORMAL}
    description["model"]["merges"] = all_merges(made)
    # llama.cpp reads no control tokens but those marked so; bytes and <unk> are plain text.
    description["added_tokens"] = [t for t in description["added_tokens"] if t["content"] in ("<s>", "</s>")]
    return Tokenizer.from_str(json.dumps(description))


def write_bert(tokenizer, path):
    description, tokens, special = parts_of(tokenizer)

    def spelled(token):
        if token in special:
            return token
        return token[2:] if token.startswith("##") else SPACE + token

    def fill(writer):
        writer.add_uint32("tokenizer.ggml.cls_token_id", 2)
        writer.add_sep_token_id(3)
        writer.add_unk_token_id(1)

    types = [CONTROL if token in special else NORMAL for token in tokens]
    write(path, "bert", [spelled(token) for token in tokens], types, fill)
    description["model"]["max_input_chars_per_word"] = 100
    return Tokenizer.from_str(json.dumps(description))


WRITERS = {
    "smollm": write_gpt2("smollm"),
    "llama3": write_gpt2("llama-bpe"),
    "qwen2": write_gpt2("qwen2"),
    "llama2": write_llama,
    "bert": write_bert,
}
