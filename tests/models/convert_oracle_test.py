"""Holds `perpend convert` against PyPI gguf, safetensors and tokenizers: values, metadata, vocabularies and generated
text, between Hugging Face folders and GGUF files, both ways."""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from tiny_models import (
    HEAD_DIM,
    LLAMA3_ROPE,
    TEMPLATE,
    TORTURE,
    TinyModel,
    decoded,
    encoded,
    read_safetensors,
    train_tokenizer,
)
from tokenizers import Tokenizer, pre_tokenizers

PROGRAM = sys.argv[1]
FORMATS = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32}
NAMES = {  # ours in GGUF -> Hugging Face's
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
PROMPT = "def main"
IDS = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": TEMPLATE}


def perpend(*arguments) -> subprocess.CompletedProcess:
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def convert(source, target, *options) -> dict:
    run = perpend("convert", source, target, "--json", *options)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    return json.loads(run.stdout)


def generated(model) -> str:
    exact = ["--raw", "--json", "--precision", "f32", "--temperature", 0, "--max-tokens", 24, "--threads", 1]
    run = perpend("generate", PROMPT, *exact, "--model", model)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["completion_tokens"] > 0
    return answer["text"]


def check_fails(folder, expected, *arguments) -> None:
    """Exit code 2, one line, and nothing new in the folder."""
    before = sorted(folder.rglob("*"))
    run = perpend("convert", *arguments)
    assert run.returncode == 2, (run.returncode, run.stdout, run.stderr)
    assert run.stderr.count("\n") == 1 and expected in run.stderr, run.stderr
    assert run.stdout == ""
    assert sorted(folder.rglob("*")) == before, "something was left behind"


def hugging_face_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"
    return f"{NAMES[parts[0]]}.{parts[1]}"


def interleaved(values: np.ndarray) -> np.ndarray:
    """Rows of q or k as llama files have them: the two values that turn together beside each other."""
    halves = values.reshape(-1, 2, HEAD_DIM // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def expected_tensors(model: TinyModel, names) -> dict:
    turned = model.config["model_type"] != "qwen2"
    expected = {}
    for name in names:
        values = model.tensors[hugging_face_name(name)]
        expected[name] = interleaved(values) if turned and name.split(".")[-2] in ("attn_q", "attn_k") else values
    return expected


def check_gguf(path, model: TinyModel, form: str) -> gguf.GGUFReader:
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    divisors = tensors.pop("rope_freqs.weight", None)
    assert (divisors is None) == (model.config["rope_scaling"] is None)
    assert sorted(map(hugging_face_name, tensors)) == sorted(model.tensors)
    for name, values in expected_tensors(model, tensors).items():
        kind = "f32" if values.ndim == 1 else form
        assert tensors[name].tensor_type.name.lower() == kind, name
        assert [int(n) for n in reversed(tensors[name].shape)] == list(values.shape), name
        assert tensors[name].data.tobytes() == encoded(values, kind), name
    return reader


def check_metadata(reader: gguf.GGUFReader, model: TinyModel, form: str) -> None:
    config = model.config
    architecture = "qwen2" if config["model_type"] == "qwen2" else "llama"
    expected = {
        "general.architecture": architecture,
        "general.file_type": FILE_TYPES[form],
        f"{architecture}.context_length": config["max_position_embeddings"],
        f"{architecture}.embedding_length": config["hidden_size"],
        f"{architecture}.feed_forward_length": config["intermediate_size"],
        f"{architecture}.block_count": config["num_hidden_layers"],
        f"{architecture}.attention.head_count": config["num_attention_heads"],
        f"{architecture}.attention.head_count_kv": config["num_key_value_heads"],
        f"{architecture}.attention.key_length": HEAD_DIM,
        f"{architecture}.attention.value_length": HEAD_DIM,
        f"{architecture}.attention.layer_norm_rms_epsilon": float(np.float32(config["rms_norm_eps"])),
        f"{architecture}.rope.freq_base": config["rope_theta"],
        f"{architecture}.rope.dimension_count": HEAD_DIM,
        f"{architecture}.vocab_size": config["vocab_size"],
    }
    for key, value in expected.items():
        assert reader.fields[key].contents() == value, key
    quantized = form not in ("f32", "f16", "bf16")
    assert ("general.quantization_version" in reader.fields) == quantized


def check_tokenizer(path, tokenizer: Tokenizer) -> None:
    found = Tokenizer.from_file(str(path))
    assert found.get_vocab() == tokenizer.get_vocab()
    for text in TORTURE:
        ids = tokenizer.encode(text).ids
        assert found.encode(text).ids == ids, text
        assert found.decode(ids) == tokenizer.decode(ids), text


def check_round_trip(folder, model, tokenizer, source, path) -> None:
    """What came from a folder goes back to an equal one."""
    back = folder / "back"
    convert(path, back)
    found = read_safetensors(back)
    assert sorted(found) == sorted(model.tensors)
    for name, values in model.tensors.items():
        assert np.array_equal(found[name][1], values), name
    check_tokenizer(back / "tokenizer.json", tokenizer)
    config = json.loads((back / "config.json").read_text())
    for key, value in model.config.items():
        if key not in ("architectures", "model_type"):
            assert config[key] == value, key
    texts = {generated(path) for path in (source, path, back)}
    assert len(texts) == 1, texts


def every_format(folder: pathlib.Path) -> None:
    """A llama from three shards to GGUF in every format and back; and GGUF to GGUF."""
    tokenizer = train_tokenizer("smollm")
    model = TinyModel(1)
    source = model.save(folder / "llama", tokenizer, shards=3, tokenizer_config=IDS)
    for form in FORMATS:
        path = folder / f"{form}.gguf"
        report = convert(source, path, "--format", form)
        reader = check_gguf(path, model, form)
        check_metadata(reader, model, form)
        num_bytes = sum(int(tensor.n_bytes) for tensor in reader.tensors)
        assert report["tensors"] == len(model.tensors) and report["format"] == form
        assert report["bytes_out"] == num_bytes and report["bytes_in"] == sum(t.nbytes for t in model.tensors.values())
        assert (report["in"], report["out"]) == (str(source), str(path)) and report["seconds"] > 0
    vocabulary = {key: reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges")}
    description = json.loads(tokenizer.to_str())
    ids = tokenizer.get_vocab()
    assert vocabulary["tokens"] == sorted(ids, key=ids.get)
    assert vocabulary["token_type"][:4] == [3, 3, 3, 1]
    assert vocabulary["merges"] == [" ".join(merge) for merge in description["model"]["merges"]]
    named = {"model": "gpt2", "pre": "smollm", "bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 0}
    for key, value in named.items():
        assert reader.fields[f"tokenizer.ggml.{key}"].contents() == value, key
    assert reader.fields["tokenizer.chat_template"].contents() == TEMPLATE
    check_round_trip(folder, model, tokenizer, source, folder / "f32.gguf")
    files = json.loads((folder / "back/tokenizer_config.json").read_text())
    assert {key: files[key] for key in IDS} == IDS
    assert json.loads((folder / "back/generation_config.json").read_text())["eos_token_id"] == 2
    check_block_formats_back(folder, model)
    check_same_kind(folder, model, source)


def check_block_formats_back(folder, model) -> None:
    """Blocks become bf16 in a folder, or what is asked for."""
    path = folder / "q4_1.gguf"
    for form in ("keep", "f32"):
        back = folder / f"from_q4_1_{form}"
        convert(path, back, "--format", form)
        found = read_safetensors(back)
        for tensor in gguf.GGUFReader(path).tensors:
            name = hugging_face_name(tensor.name)
            shape = model.tensors[name].shape
            values = decoded(tensor.data.tobytes(), tensor.tensor_type.name, shape)
            if tensor.name.split(".")[-2] in ("attn_q", "attn_k"):
                heads = values.reshape(-1, HEAD_DIM // 2, 2, shape[1])
                values = heads.swapaxes(1, 2).reshape(shape)
            kind = "bf16" if form == "keep" and len(shape) > 1 else "f32"
            assert found[name][0] == kind
            assert np.array_equal(found[name][1], decoded(encoded(values, kind), kind, shape)), name


def check_same_kind(folder, model, source) -> None:
    """Requantised without a change of kind; metadata and tokenizer are copied."""
    convert(folder / "q8_0.gguf", folder / "requantised.gguf", "--format", "q4_0")
    before, after = (gguf.GGUFReader(folder / name) for name in ("q8_0.gguf", "requantised.gguf"))
    for old, new in zip(before.tensors, after.tensors):
        shape = [int(n) for n in reversed(old.shape)]
        kind = "f32" if len(shape) == 1 else "q4_0"
        assert new.name == old.name
        assert new.data.tobytes() == encoded(decoded(old.data.tobytes(), old.tensor_type.name, shape), kind), old.name
    for key, field in before.fields.items():
        if key not in ("general.file_type",) and not key.startswith("GGUF."):
            assert after.fields[key].contents() == field.contents(), key
    assert after.fields["general.file_type"].contents() == FILE_TYPES["q4_0"]
    convert(folder / "q8_0.gguf", folder / "kept.gguf")
    assert (folder / "kept.gguf").read_bytes() == (folder / "q8_0.gguf").read_bytes()
    convert(source, folder / "half", "--format", "f16")
    for name, (dtype, values) in read_safetensors(folder / "half").items():
        assert dtype == "f16" and np.array_equal(values, model.tensors[name].astype(np.float16)), name
    assert (folder / "half/tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert json.loads((folder / "half/config.json").read_text()) == {**model.config, "torch_dtype": "float16"}


def qwen2(folder: pathlib.Path) -> None:
    """Biases, tied embeddings, more rows than tokens, bf16."""
    tokenizer = train_tokenizer("qwen2")
    model = TinyModel(2, "qwen2", tied=True, biases=True, rows=1536, dtype="bf16")
    ends = {**IDS, "eos_token": "<|endoftext|>"}
    source = model.save(folder / "qwen2", tokenizer, tokenizer_config=ends)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0, 300]}))
    path = folder / "qwen2.gguf"
    convert(source, path)
    reader = check_gguf(path, model, "bf16")
    check_metadata(reader, model, "bf16")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == 1536 and tokens[1500] == "[PAD1500]"
    assert reader.fields["tokenizer.ggml.eot_token_id"].contents() == 300
    check_round_trip(folder, model, tokenizer, source, path)
    assert json.loads((folder / "back/config.json").read_text())["model_type"] == "qwen2"
    assert json.loads((folder / "back/generation_config.json").read_text())["eos_token_id"] == [0, 300]


def llama3(folder: pathlib.Path) -> None:
    """Stretched frequencies, a token before each text, biases that turn with their rows."""
    tokenizer = train_tokenizer("llama3")
    model = TinyModel(3, biases=True, dtype="f16", rope=LLAMA3_ROPE)
    source = model.save(folder / "llama3", tokenizer, tokenizer_config={**IDS, "bos_token": "<|endoftext|>"})
    path = folder / "llama3.gguf"
    convert(source, path)
    reader = check_gguf(path, model, "f16")
    check_metadata(reader, model, "f16")
    assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is True
    divisors = next(tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    frequencies = 1 / 5000.0 ** (np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    wavelengths = 2 * np.pi / frequencies
    smooth = np.clip((8192 / wavelengths - 1) / (4 - 1), 0, 1)
    assert np.allclose(divisors, 1 / ((1 - smooth) / 32 + smooth), rtol=1e-4)
    check_round_trip(folder, model, tokenizer, source, path)
    assert json.loads((folder / "back/config.json").read_text())["attention_bias"] is True


def sentence_piece(folder: pathlib.Path) -> None:
    """A mistral with a vocabulary of scores and byte tokens; linear scaling."""
    tokenizer = train_tokenizer("llama2")
    rope = {"rope_type": "linear", "type": "linear", "factor": 2.0}
    model = TinyModel(4, "mistral", rows=tokenizer.get_vocab_size(), rope=rope)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    source = model.save(folder / "mistral", tokenizer, tokenizer_config=names)
    path = folder / "mistral.gguf"
    convert(source, path)
    reader = gguf.GGUFReader(path)
    assert reader.fields["llama.rope.scaling.factor"].contents() == 2.0
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    assert types[:3] == [2, 3, 3] and types[3:259] == [6] * 256 and set(types[259:]) == {1}
    scores = reader.fields["tokenizer.ggml.scores"].contents()
    assert len(scores) == len(types) == tokenizer.get_vocab_size()
    convert(path, folder / "back")
    check_tokenizer(folder / "back/tokenizer.json", tokenizer)
    convert(folder / "back", folder / "again.gguf")
    again = gguf.GGUFReader(folder / "again.gguf")
    assert again.fields["tokenizer.ggml.scores"].contents() == scores
    assert len({generated(p) for p in (source, path, folder / "back")}) == 1
    # The newer spelling of the same puts no blank before a text that begins with one: GGUF does, and says so.
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.save(str(source / "tokenizer.json"))
    run = perpend("convert", source, path, "--force")
    assert run.returncode == 0 and "begins with a blank" in run.stderr, run.stderr
    assert generated(source) == generated(path)


def longgen(folder: pathlib.Path) -> None:
    """What makes a hybrid is written, into either kind, and carried from one to the other."""
    tokenizer = train_tokenizer("smollm")
    model = TinyModel(6)
    source = model.save(folder / "plain", tokenizer, tokenizer_config=IDS)
    keys = {"variant": "bs", "block_size": 16, "n_full": 1, "lo": 1, "sink_blocks": 2, "window_blocks": 3}
    keys |= {"stride_blocks": 8, "head_shift": 4}
    preset = "longgen-bs(block=16, n_full=1, lo=1, sink=2, window=3, stride=8, head_shift=auto)"
    flags = ["--preset", preset, "--rope-base", "5e6", "--context", 4096]
    config = {**model.config, "longgen": keys, "rope_theta": 5e6, "max_position_embeddings": 4096}
    convert(source, folder / "hybrid", *flags)
    assert json.loads((folder / "hybrid/config.json").read_text()) == {**config, "torch_dtype": "float32"}
    convert(folder / "hybrid", folder / "carried.gguf")
    convert(source, folder / "hybrid.gguf", *flags)
    convert(source, folder / "plain.gguf")
    convert(folder / "plain.gguf", folder / "changed.gguf", *flags)
    for name in ("carried", "hybrid", "changed"):
        fields = gguf.GGUFReader(folder / f"{name}.gguf").fields
        found = {key: fields[f"llama.longgen.{key}"].contents() for key in keys}
        assert found == keys, (name, found)
        assert fields["llama.rope.freq_base"].contents() == 5e6
        assert fields["llama.context_length"].contents() == 4096
    convert(folder / "carried.gguf", folder / "back")
    back = json.loads((folder / "back/config.json").read_text())
    assert {key: back[key] for key in config if key not in ("architectures", "model_type")} == {
        key: value for key, value in config.items() if key not in ("architectures", "model_type")
    }
    assert len({generated(folder / name) for name in ("hybrid", "carried.gguf", "changed.gguf", "back")}) == 1
    check_fails(folder, "preset: column 1: expected longgen-as", source, folder / "x", "--preset", "longgen")
    check_fails(folder, "longgen.n_full: expected at most 2", source, folder / "x", "--preset", "longgen-as(n_full=3)")
    check_fails(folder, "rope-base: expected a positive number", source, folder / "x", "--rope-base", "-1")
    check_fails(folder, "context: expected 1 to", source, folder / "x", "--context", "-1")


def blockrank(folder: pathlib.Path) -> None:
    """How a model ranks is carried from one kind to the other."""
    model = TinyModel(7)
    keys = {"layer": 1, "lambda": 0.25, "tau": 0.05, "query_pos_offset": 300, "chunk_len": 80, "signal_tokens": 3}
    model.config["blockrank"] = keys
    source = model.save(folder / "ranker", train_tokenizer("smollm"), tokenizer_config=IDS)
    convert(source, folder / "ranker.gguf")
    fields = gguf.GGUFReader(folder / "ranker.gguf").fields
    found = {key: fields[f"llama.blockrank.{key}"].contents() for key in keys}
    assert {**found, "tau": 0.05} == keys and abs(found["tau"] - 0.05) < 1e-8, found
    convert(folder / "ranker.gguf", folder / "back")
    assert json.loads((folder / "back/config.json").read_text())["blockrank"] == keys
    convert(folder / "ranker.gguf", folder / "again.gguf", "--format", "q8_0")
    assert gguf.GGUFReader(folder / "again.gguf").fields["llama.blockrank.layer"].contents() == 1
    model.config["blockrank"] = {**keys, "layer": 2}
    wrong = model.save(folder / "wrong", train_tokenizer("smollm"))
    check_fails(folder, "key 'layer': expected an integer from 0 to 1, found 2", wrong, folder / "x.gguf")


def refusals(folder: pathlib.Path) -> None:
    tokenizer = train_tokenizer("gpt2")
    model = TinyModel(5)
    source = model.save(folder / "model", tokenizer)
    path = folder / "model.gguf"
    convert(source, path)
    check_fails(folder, "--force", source, path)
    check_fails(folder, "--force", path, source)
    check_fails(folder, "the source itself", path, path, "--force")
    check_fails(folder, "expected one of", source, folder / "x.gguf", "--format", "q9")
    check_fails(folder, "expected one of", source, folder / "x.gguf", "--format", "q4_k")
    check_fails(folder, "holds f32, f16 and bf16", path, folder / "x", "--format", "q8_0")
    check_fails(folder, "no such file", folder / "absent", folder / "x.gguf")
    check_fails(folder, "No such file", source, folder / "absent/x.gguf")
    tokenizers_without_a_name(folder, model)
    replaces_only_the_model(folder, path)
    broken_inputs(folder, model, tokenizer, path)


def tokenizers_without_a_name(folder, model) -> None:
    """What GGUF can not say is refused, not approximated."""
    for family, expected in (("gpt4o", "pre_tokenizer"), ("metaspace_always", "pre_tokenizer"), ("bert", "only BPE")):
        source = model.save(folder / family, train_tokenizer(family))
        check_fails(folder, expected, source, folder / "x.gguf")
    description = json.loads(train_tokenizer("llama2").to_str())
    description["model"]["merges"].pop()
    source = model.save(folder / "popped", Tokenizer.from_str(json.dumps(description)))
    check_fails(folder, "merges are not those", source, folder / "x.gguf")


def replaces_only_the_model(folder, path) -> None:
    used = folder / "used"
    used.mkdir()
    for name in ("notes.txt", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "merges.txt"):
        (used / name).write_text("old")
    check_fails(folder, "--force", path, used)
    convert(path, used, "--force")
    names = {entry.name for entry in used.iterdir()}
    assert names == {"notes.txt", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}, names
    assert (used / "notes.txt").read_text() == "old"
    convert(used, path, "--force", "--format", "q8_0")
    assert gguf.GGUFReader(path).fields["general.file_type"].contents() == FILE_TYPES["q8_0"]


def broken_inputs(folder, model, tokenizer, path) -> None:
    cut = folder / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:-5000])
    check_fails(folder, "cut.gguf", cut, folder / "x")
    check_fails(folder, "cut.gguf", cut, folder / "x.gguf")
    # Found only when the tensors are being written.
    name = "model.layers.1.mlp.down_proj.weight"
    model.tensors[name][5, 7] = 1e6
    large = model.save(folder / "large", tokenizer)
    check_fails(folder, "can not hold the value 1e+06", large, folder / "x.gguf", "--format", "f16")
    check_fails(folder, "can not hold the value 1e+06", large, folder / "x", "--format", "f16")
    model.tensors[name][5, 7] = np.nan
    ragged = model.save(folder / "nan", tokenizer)
    check_fails(folder, "can not hold the value nan", ragged, folder / "x.gguf", "--format", "q5_1")
    del model.tensors[name]
    check_fails(folder, name, model.save(folder / "lacking", tokenizer), folder / "x.gguf")
    model.tensors[name] = np.zeros((64, 160), np.float32)
    model.tensors["model.layers.0.mlp.router.weight"] = np.zeros((2, 64), np.float32)
    check_fails(folder, "router", model.save(folder / "router", tokenizer), folder / "x.gguf")


def main() -> None:
    checks = [every_format, qwen2, llama3, sentence_piece, longgen, blockrank, refusals]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = {}
        for check in checks:
            place = pathlib.Path(folder) / check.__name__
            place.mkdir()
            runs[check.__name__] = pool.submit(check, place)
        for name, run in runs.items():
            run.result()
            print(f"{name}: ok", flush=True)


main()
