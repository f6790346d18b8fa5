"""Writes the seeds of the fuzz targets: make_corpus.py FOLDER. Small valid inputs of every kind, so that
the fuzzers start behind the first checks."""

import json
import pathlib
import struct
import sys

TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m.content | string | trim }}\n{% endfor %}",
    "{%- if messages[0]['role'] == 'system' -%}{%- set s = messages[0].content %}{%- else %}{% set s = '' %}"
    "{%- endif %}{{ s.strip() | upper }}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{% macro show(x, sep=', ') %}{{ x | tojson(indent=2) }}{{ sep }}{% endmacro %}"
    "{% for t in tools %}{{ show(t) }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set ns = namespace(x=[], y='y') %}{% for i in range(9) %}{% set ns.x = [ns.x] %}{% set ns.y = ns.y ~ ns.y %}"
    "{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns }}{{ ns == ns }}{% set ns.z = ns %}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | length }}",
    "{{ messages[::-1][0:2] }}{{ [1, 2.5, none, true] }}{{ {'a': (1, 2)} }}{{ 7 // 2 ** 3 % 5 }}",
    "{% for k, v in messages[0].items() if k is string and not v is none %}{{ loop.index }}{{ k ~ v }}"
    "{% if loop.last %}{% break %}{% else %}{% continue %}{% endif %}{% else %}none{% endfor %}",
    "{# comment #}{{ raise_exception('no') if tools is defined and tools else 'x'.split(',') | join('-') }}",
    "{{ 'a b'.replace('a', \"c\").title().startswith('C') }}{{ 'x' in 'xyz' and 1 not in [2] or not false }}",
    "{% set text %}block{% endset %}{{ text | replace('b', '') | capitalize | e }}{{ '%s' | default('d', true) }}",
    "{% generation %}{{ strftime_now('%Y') }}{% endgeneration %}",
]

MASKS = [
    "all", "none", "causal", "window(4)", "window(2, 7)", "sink(3)", "~causal", "causal & (sink(64) | window(448))",
    "~(causal | ~window(3)) & ~~sink(0)", "0-9,20-29: causal & (sink(64) | window(448)); rest: causal",
    "all: causal", "0: none; 1-28: all; rest: ~none",
    "causal & (same(doc) | k_in(doc, 0, -1) | q_in(doc, 3))", "upto(block(3, 2)) | before(within(5, block(2)))",
    "same(segments(2*3, 0, 6))", "same(segments_at(0, 4, 4, 9))", "k_in(copy(4), 1) & near(3, 2) | every(2, 3, 1)",
    "same(grid(3, 4).window(2, 2, 1))", "upto(grid(2, 2, 3).frame)", "table(within(6, block(2)), 110, 011, 111)",
    "tiles(map) & ~same(part)", "heads(0-3, 5: causal; 7: none; rest: window(3))",
    "0: heads(0: all; rest: causal); rest: causal", "block_diffusion(6, 2)", "longgen_sink()", "swin(4, 3, 2, 4)",
    "dreamvla(2, 3, 1)", "ladir_train(6, part, doc)", "doc = segments(2*3, 6); part = within(4, doc)",
]  # fmt: skip


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def gguf(version: int, entries: list[bytes], tensors: list[tuple[str, list[int], int, int]]) -> bytes:
    """tensors: name, dimensions innermost first, type number, bytes."""
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries)
    offset = 0
    for name, dims, number, size in tensors:
        header += text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) + struct.pack("<IQ", number, offset)
        offset += -(-size // 32) * 32
    return header + bytes(-len(header) % 32) + bytes(range(256)) * (offset // 256) + bytes(offset % 256)


def gguf_seeds() -> list[bytes]:
    scalars = ["<B", "<b", "<H", "<h", "<I", "<i", "<f", "<B", None, None, "<Q", "<q", "<d"]
    entries = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    for number, layout in enumerate(scalars):
        if layout:
            entries.append(text(f"key{number}") + struct.pack("<I", number) + struct.pack(layout, 1))
            array = struct.pack("<IIQ", 9, number, 2) + struct.pack(layout, 1) * 2
            entries.append(text(f"array{number}") + array)
    entries.append(text("strings") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text(""))
    entries.append(text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQBB", 0, 2, 1, 2))
    aligned = text("general.alignment") + struct.pack("<II", 4, 32)
    sizes = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
             12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)}  # fmt: skip
    tensors = [(f"t{n}", [values, 2], n, 2 * size) for n, (values, size) in sizes.items()]
    return [gguf(3, [], []), gguf(2, [aligned], [("t", [8], 0, 32)]), gguf(3, entries, []), gguf(3, [], tensors)]


def safetensors_seeds() -> list[bytes]:
    def file(header: dict, size: int) -> bytes:
        return text(json.dumps(header)) + bytes(size)

    def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    return [
        file({}, 0),
        file({"__metadata__": {"format": "pt"}, "a": tensor("F32", [2, 3], 0, 24)}, 24),
        file({"a": tensor("BF16", [], 0, 2), "b": tensor("F16", [0, 2], 2, 2), "c": tensor("I64", [1], 2, 10)}, 10),
    ]


def byte_letters() -> list[str]:
    """How byte-level BPE spells the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    letters = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [letters[b] for b in range(256)]


def tokenizer_seeds() -> list[bytes]:
    letters = byte_letters()
    merges = ["h e", "l l", "he ll", "Ġ w", "hell o"]
    vocab = {token: i for i, token in enumerate([*letters, *(m.replace(" ", "") for m in merges)])}
    special = {"id": len(vocab), "content": "<s>", "special": True, "single_word": False, "lstrip": False,
               "rstrip": True, "normalized": False}  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]}
    split = {"type": "Split", "pattern": {"Regex": r"\s+|\p{L}+|\p{N}{1,3}"}, "behavior": "Isolated", "invert": False}
    splits = {"type": "Sequence", "pretokenizers": [split, {**byte_level, "use_regex": False}]}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [len(vocab)], "tokens": ["<s>"]}},
    }
    base = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "ignore_merges": False, "vocab": vocab, "merges": merges},
    }  # fmt: skip
    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "hello": 3, "wor": 4, "##ld": 5, "a": 6}
    word_piece = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": words}  # fmt: skip
    pieces = [["<unk>", 0.0], ["▁hello", -1.0], ["▁", -2.0], ["h", -3.0], ["e", -3.5], ["<0x0A>", 0.0]]
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": True}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    documents = [
        base,
        {**base, "pre_tokenizer": digits, "post_processor": template},
        {**base, "pre_tokenizer": splits, "normalizer": {"type": "NFC"}},
        {**base, "model": word_piece, "added_tokens": [], "pre_tokenizer": {"type": "BertPreTokenizer"},
         "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                        "strip_accents": None, "lowercase": True},
         "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}},
        {**base, "model": unigram, "added_tokens": [], "pre_tokenizer": metaspace, "decoder": metaspace},
    ]  # fmt: skip
    texts = ["hello world <s>", "  H3llo\n\n wörld 12345 <s> 日本 ", "\ud83d"]
    return [
        json.dumps(d, ensure_ascii=False).encode() + b"\0" + t.encode(errors="surrogatepass")
        for d in documents
        for t in texts
    ]


def write(folder: pathlib.Path, seeds: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        (folder / f"seed{i}").write_bytes(seed)


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    write(root / "gguf", gguf_seeds())
    write(root / "safetensors", safetensors_seeds())
    write(root / "tokenizer_json", tokenizer_seeds())
    write(root / "chat_template", [t.encode() for t in TEMPLATES])
    write(root / "mask_text", [m.encode() for m in MASKS])


main()
