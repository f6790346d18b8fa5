"""Runs models with LoRA adapters against models whose weights numpy merged, and trains a ranker from end to end.
adapter_oracle_test.py PROGRAM"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from tiny_models import TinyModel, train_tokenizer, write_safetensors

PROGRAM = sys.argv[1]
RANK, ALPHA = 3, 5.0
TARGETS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]
QUERY = "play chess"
DOCUMENTS = [
    {"id": "chess", "text": "a game of chess"},
    {"id": "bread", "text": "how to bake bread"},
    {"id": "maps", "text": "maps of old cities"},
]


def perpend(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def succeed(*arguments) -> str:
    run = perpend(*arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout


def check_fails(expected: str, *arguments) -> None:
    run = perpend(*arguments)
    assert run.returncode == 2 and run.stderr.count("\n") == 1, (run.returncode, run.stderr)
    assert expected in run.stderr, run.stderr


def random_adapter(model: TinyModel, seed: int) -> dict:
    """Of the first layer all targets, of the second the first alone."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer, targets in enumerate((TARGETS, TARGETS[:1])):
        for target in targets:
            name = f"model.layers.{layer}.{target}"
            outputs, inputs = model.tensors[f"{name}.weight"].shape
            tensors[f"base_model.model.{name}.lora_A.weight"] = rng.normal(0, 0.3, (RANK, inputs)).astype(np.float32)
            tensors[f"base_model.model.{name}.lora_B.weight"] = rng.normal(0, 0.3, (outputs, RANK)).astype(np.float32)
    return tensors


def write_adapter(folder: pathlib.Path, tensors: dict, **more) -> pathlib.Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"], **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    write_safetensors(folder / "adapter_model.safetensors", tensors, "f32")
    return folder


def merge(model: TinyModel, adapter: dict) -> None:
    for name, down in adapter.items():
        if "lora_A" not in name:
            continue
        up = adapter[name.replace("lora_A", "lora_B")]
        matrix = name.removeprefix("base_model.model.").replace(".lora_A", "")
        wide = model.tensors[matrix].astype(np.float64) + ALPHA / RANK * up.astype(np.float64) @ down
        model.tensors[matrix] = wide.astype(np.float32)


def scores(docs: pathlib.Path, *arguments) -> np.ndarray:
    output = json.loads(succeed("rank", "--query", QUERY, "--docs", docs, "--top", 0, "--json", *arguments))
    found = {result["id"]: result["score"] for result in output["results"]}
    return np.array([found[document["id"]] for document in DOCUMENTS])


def adapters_are_merged_weights(folder: pathlib.Path, docs: pathlib.Path) -> None:
    """In a Hugging Face folder and in a GGUF file, whose rows of q and k lie in another order."""
    tokenizer = train_tokenizer("smollm")
    model = TinyModel(11)
    model.config["max_position_embeddings"] = 2048
    base = model.save(folder / "base", tokenizer)
    tensors = random_adapter(model, 12)
    rank = {"layer": 1, "query_pos_offset": 700, "chunk_len": 100}
    adapter = write_adapter(folder / "adapter", tensors, blockrank=rank)
    merge(model, tensors)
    model.config["blockrank"] = rank
    merged = model.save(folder / "merged", tokenizer)
    succeed("convert", base, folder / "base.gguf")
    expected = scores(docs, "--model", merged, "--precision", "f32")
    plain = scores(docs, "--model", base, "--precision", "f32")
    assert np.abs(plain - expected).max() > 1e-2
    for source in (base, folder / "base.gguf"):
        found = scores(docs, "--model", source, "--adapter", adapter, "--precision", "f32")
        assert np.abs(found - expected).max() < 1e-5, (source, found, expected)
    # Packed blocks are merged into Q8_0, which rounds what it merges.
    for name, model_folder in (("base", base), ("merged", merged)):
        succeed("convert", model_folder, folder / f"{name}.q8_0.gguf", "--format", "q8_0")
    found = scores(docs, "--model", folder / "base.q8_0.gguf", "--adapter", adapter)
    rounded = scores(docs, "--model", folder / "merged.q8_0.gguf")
    effect = np.abs(plain - expected).max()
    assert np.abs(found - rounded).max() < effect / 3, (found, rounded, effect)
    exact = ["--raw", "--json", "--precision", "f32", "--temperature", 0, "--max-tokens", 8]
    texts = [
        json.loads(succeed("generate", "def main", *exact, "--model", *which))["text"]
        for which in ([merged], [folder / "base.gguf", "--adapter", adapter])
    ]
    assert texts[0] == texts[1], texts
    wrong_adapters(folder, base, docs, tensors)


def wrong_adapters(folder: pathlib.Path, base: pathlib.Path, docs: pathlib.Path, tensors: dict) -> None:
    command = ["rank", "--query", QUERY, "--docs", docs, "--model", base, "--adapter"]
    check_fails("found no adapter_config.json", *command, folder / "nothing")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    cases = [
        ({name: tensors[name][:5]}, f"tensor '{name}': expected the shape [128, 3], found [5, 3]"),
        ({name.replace("layers.0", "layers.7"): tensors[name]}, "layers.7.self_attn.q_proj.lora_B.weight' belongs to no"),
    ]
    for i, (change, expected) in enumerate(cases):
        check_fails(expected, *command, write_adapter(folder / f"wrong{i}", {**tensors, **change}))
    half = {key: value for key, value in tensors.items() if key != name}
    check_fails(f"tensor '{name}' is missing", *command, write_adapter(folder / "half", half))
    dora = write_adapter(folder / "dora", tensors, use_dora=True)
    check_fails("use_dora is not built", *command, dora)
    beyond = write_adapter(folder / "beyond", tensors, blockrank={"layer": 2})
    check_fails("key 'layer': expected an integer from 0 to 1, found 2", *command, beyond)


def a_ranker_is_trained(folder: pathlib.Path, docs: pathlib.Path) -> None:
    """Prompts, training, ranking: what was answered in training is found again."""
    model = TinyModel(13)
    model.config |= {"max_position_embeddings": 2048, "num_hidden_layers": 2}
    base = model.save(folder / "untrained", train_tokenizer("smollm"))
    ids = [document["id"] for document in DOCUMENTS]
    lines = [{"query": QUERY, "documents": ids, "answer_ids": ["bread"]}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ["--docs", docs, "--model", base, "--limit", 60, "--query-position", 900]
    report = json.loads(succeed("rank-prompts", folder / "prompts.jsonl", folder / "data", *flags, "--json"))
    assert report["prompts"] == 1 and report["tokens"] == json.loads((folder / "data/dataset.json").read_text())["num_tokens"]
    config = f"""
out = "{folder}/run"
steps = 12
[model]
path = "{base}"
num_layers = 2
layers = "causal & (same(doc) | k_in(doc, 0) | q_in(doc, 4))"
[lora]
rank = 4
targets = ["q_proj", "k_proj", "down_proj"]
[data]
path = "{folder}/data"
batch_sequences = 1
[optimizer]
learning_rate = 2e-2
[[loss]]
kind = "blockrank"
weight = 1.0
layer = 1
query_pos_offset = 900
chunk_len = 60
"""
    (folder / "run.toml").write_text(config)
    succeed("train", folder / "run.toml")
    losses = [json.loads(line)["loss"] for line in (folder / "run/log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0], losses
    adapter = folder / "run/adapter"
    written = json.loads((adapter / "adapter_config.json").read_text())["blockrank"]
    expected = {"layer": 1, "lambda": 1.0, "tau": 0.05, "query_pos_offset": 900, "chunk_len": 60, "signal_tokens": 2}
    assert written == expected, written
    before, after = (scores(docs, "--model", base, *more) for more in ([], ["--adapter", adapter]))
    assert after.argmax() == 1 and after[1] > before[1] + 0.05, (before, after)
    (folder / "wrong.jsonl").write_text('{"query": "x", "documents": ["chess"], "answer_ids": ["bread"]}\n')
    check_fails("line 1: the answer 'bread' is not one of", "rank-prompts", folder / "wrong.jsonl", folder / "x", *flags)


def many_queries(folder: pathlib.Path, docs: pathlib.Path) -> None:
    queries = folder / "queries.jsonl"
    queries.write_text('{"id": "q1", "text": "chess game"}\n{"id": 2, "text": "zebra"}\n')
    command = ["rank", "--queries", queries, "--docs", docs]
    found = [json.loads(line) for line in succeed(*command, "--bm25").splitlines()]
    assert [line["query"] for line in found] == ["q1", "2"]
    assert [result["id"] for result in found[0]["results"]] == ["chess"] and found[1]["results"] == []
    one = succeed("rank", "--query", "chess game", "--docs", docs, "--json", "--model", folder / "base")
    first = json.loads(succeed(*command, "--model", folder / "base").splitlines()[0])
    assert first == {"query": "q1", **json.loads(one)}
    check_fails("give either --query", *command, "--query", "x")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        docs = folder / "docs.jsonl"
        docs.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
        adapters_are_merged_weights(folder, docs)
        a_ranker_is_trained(folder, docs)
        many_queries(folder, docs)
        print("adapters: merged weights, errors, a trained ranker, many queries")


main()
