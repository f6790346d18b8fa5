"""Runs models with LoRA adapters against models whose weights numpy merged, and trains a ranker from end to end.
adapter_oracle_test.py PROGRAM"""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).parents[2] / "experiments" / name) for name in ("block-diffusion", "common")]

import numpy as np
from answers import Asker, Setting, measured
from distil import good_answers
from drift import Answer, drift_of
from numpy_model import FullAttentionModel, read_model
from pack_adapter import pack, pairs_of_adapter, pairs_of_change
from runs import Program
from safetensors_file import read_folder, write_safetensors as write_int8
from tasks import make_items
from tiny_models import TinyModel, read_safetensors, train_tokenizer, write_safetensors

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
    # What is packed is widened, merged and packed as Q8_0 again; all else keeps its blocks.
    packed = folder / "base.q8_0.gguf"
    succeed("convert", base, packed, "--format", "q8_0")
    succeed("convert", packed, folder / "widened", "--format", "f32")
    model.tensors = {name: values for name, (_, values) in read_safetensors(folder / "widened").items()}
    merge(model, tensors)
    succeed("convert", model.save(folder / "remerged", tokenizer), folder / "remerged.q8_0.gguf", "--format", "q8_0")
    found = scores(docs, "--model", packed, "--adapter", adapter)
    expected = scores(docs, "--model", folder / "remerged.q8_0.gguf")
    assert np.abs(found - expected).max() < 1e-5, (found, expected)
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


def unpacked(folder: pathlib.Path) -> dict:
    """Tensors of a packed adapter as float32."""
    stored = read_folder(folder, "adapter_model.safetensors")
    names = [name for name in stored if not name.endswith(".scale")]
    scale = {name: stored.get(f"{name}.scale", np.ones(1, np.float32))[:, None] for name in names}
    return {name: stored[name].astype(np.float32) * scale[name] for name in names}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def packed_adapters_make_diffusion_models(folder: pathlib.Path) -> None:
    """int8 with factors of rows, in two files, with the mask token's own row: as numpy's merged diffusion model answers."""
    tokenizer = train_tokenizer("smollm")
    model = TinyModel(21)
    model.tensors["lm_head.weight"][:4] = 0
    base = model.save(folder / "plain", tokenizer)
    diffusion = {"attention": "block", "block_size": 8, "mask_token_id": 3, "shift": True}
    tokens = {"trainable_token_indices": {"embed_tokens": [3]}}
    row = np.random.default_rng(22).normal(0, 1, (1, 64)).astype(np.float32)
    source = write_adapter(folder / "source", random_adapter(model, 23), diffusion=diffusion, **tokens)
    pairs, config, _ = pairs_of_adapter(source)
    packed = folder / "packed"
    assert len(pack(pairs, config, row, "base", packed)) == 1
    tensors = unpacked(packed)
    for matrix, (down, up) in pairs.items():
        again = tensors[f"{matrix}.lora_B.weight"] @ tensors[f"{matrix}.lora_A.weight"]
        assert relative_error(again, up @ down) < 0.02, matrix
    model.tensors["model.embed_tokens.weight"][3] = row[0]
    merge(model, {name: values for name, values in tensors.items() if "lora" in name})
    model.config["diffusion"] = diffusion
    merged = model.save(folder / "whole", tokenizer)
    sharded = folder / "sharded"
    sharded.mkdir()
    shards = split(packed, sharded)
    command = ["generate", "def main", "--raw", "--json", "--temperature", 0, "--max-tokens", 24, "--threshold", 0.05, "--model"]
    exact = ["--precision", "f32"]
    expected = json.loads(succeed(*command, merged, *exact))
    assert expected["tokens_per_forward"] > 1
    succeed("convert", base, folder / "plain.gguf")
    for which in ((base, packed), (base, sharded), (folder / "plain.gguf", packed)):
        found = json.loads(succeed(*command, which[0], "--adapter", which[1], *exact))
        assert [found[key] for key in ("text", "forwards")] == [expected[key] for key in ("text", "forwards")], which
    # Packed blocks, whose row of the mask token stays as it is.
    succeed("convert", base, folder / "plain.q8_0.gguf", "--format", "q8_0")
    succeed(*command, folder / "plain.q8_0.gguf", "--adapter", packed)
    assert json.loads(succeed(*command, base, "--adapter", source.parent / "packed", *exact, "--block-size", 1))["tokens_per_forward"] <= 1
    shards[1].unlink()
    check_fails("shard-1.safetensors", *command, base, "--adapter", sharded)
    spoil(packed, {"trainable_token_indices": {"lm_head": [3]}})
    check_fails("trainable_token_indices of anything but embed_tokens is not built", *command, base, "--adapter", packed)
    spoil(packed, {"trainable_token_indices": {"embed_tokens": [70000]}})
    check_fails("token 70000 is outside the vocabulary", *command, base, "--adapter", packed)


def split(packed: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    """The tensors of a packed adapter in two files; factors beside what they belong to."""
    tensors = read_folder(packed, "adapter_model.safetensors")
    names = [name for name in tensors if not name.endswith(".scale")]
    weight_map = {}
    for i in range(2):
        mine = {name: tensors[name] for name in tensors if names.index(name.removesuffix(".scale")) % 2 == i}
        write_int8(out / f"shard-{i}.safetensors", mine)
        weight_map |= {name: f"shard-{i}.safetensors" for name in mine}
    (out / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (out / "adapter_config.json").write_text((packed / "adapter_config.json").read_text())
    return [out / f"shard-{i}.safetensors" for i in range(2)]


def spoil(folder: pathlib.Path, changes: dict) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def numpy_answers_as_the_program_does(folder: pathlib.Path) -> None:
    """The model of experiments/block-diffusion/drift.py: full attention, an adapter, a window; and its measures."""
    tokenizer = train_tokenizer("smollm")
    model = TinyModel(41)
    base = model.save(folder / "drift-base", tokenizer)
    adapter = random_adapter(model, 42)
    source = write_adapter(folder / "drift-source", adapter, diffusion={"attention": "full", "mask_token_id": 3})
    pairs, config, _ = pairs_of_adapter(source)
    pack(pairs, config, None, "base", folder / "drift-packed")
    command = ["generate", "def main", "--raw", "--json", "--model", base, "--adapter", folder / "drift-packed", "--precision", "f32"]
    command += ["--temperature", 0, "--max-tokens", 20, "--cache", "none", "--fill-window", 4, "--threshold", 0.15]
    result = json.loads(succeed(*command, "--trace", folder / "drift.json"))
    trace = json.loads((folder / "drift.json").read_text())
    settings, adapted, tensors = read_model(base, folder / "drift-packed")
    answer = Answer(tokenizer.encode("def main").ids, 20, adapted["diffusion"]["mask_token_id"], -1, 4, 0.15)
    steps = drift_of(FullAttentionModel(settings, tensors), answer)
    assert answer.tokens[answer.prompt :][: len(trace["tokens"])] == trace["tokens"], (answer.tokens, trace["tokens"])
    assert len(trace["tokens"]) == 20 and len(steps) + 1 == result["forwards"] < 20
    first = [step[0] for step in steps]  # keys and values of the first layer depend on their own token alone
    assert all(abs(layer["keys"] - 1) < 1e-5 and abs(layer["values"] - 1) < 1e-5 for layer in first), first
    second = [step[1] for step in steps]
    assert all(layer["keys"] < 1 - 1e-5 and 0 <= layer["rank"] <= 100 for layer in second), second


def batches_are_asked_and_scored(folder: pathlib.Path) -> None:
    """What experiments/block-diffusion reads of `perpend generate --batch`, and how it counts."""
    template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    base = TinyModel(61).save(folder / "asked", train_tokenizer("smollm"), tokenizer_config={"chat_template": template})
    asker = Asker(Program(PROGRAM, float("inf")), folder / "answers", "cpu")
    items = make_items(3, 1, 0.2)
    setting = Setting("x", ("--model", str(base)), ("--ids", "--precision", "f32"), batch_size=2, num_items=2, max_tokens=5)
    report = asker.ask(setting, items, shots=1)
    assert (report["items"], report["exact_match"], report["completion_tokens"]) == (2, 0, 10), report
    assert report["forwards"] == 10 and report["tokens_per_forward"] == 1 and report["seconds"] > 0, report
    lines = [json.loads(line) for line in (folder / "answers/x.answers.jsonl").read_text().splitlines()]
    lines.sort(key=lambda line: line["id"])
    assert [len(line["answer_ids"]) for line in lines] == [5, 5] and all(line["prompt_ids"] for line in lines)
    assert good_answers([json.dumps(line) for line in lines]) == []  # they were cut
    assert asker.ask(setting, []) == report  # not asked again
    right = {str(place): {"text": f"{item.answer}\n", "completion_tokens": 6, "forwards": 2} for place, item in enumerate(items[:2])}
    counted = measured(items, right, {"seconds": 4})
    assert abs(counted["exact_match"] - 200 / 3) < 1e-9 and counted["by_task"][items[2].task] == 0, counted
    assert (counted["tokens_per_forward"], counted["tokens_per_s"]) == (3, 3), counted


def changes_of_whole_training_are_packed(folder: pathlib.Path) -> None:
    """A change of low rank comes back; one of full rank as near as its singular values allow."""
    before, after = TinyModel(31), TinyModel(31)
    rng = np.random.default_rng(32)
    low, full = "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.k_proj"
    after.tensors[f"{low}.weight"] += (rng.normal(0, 1, (160, 4)) @ rng.normal(0, 1, (4, 64))).astype(np.float32)
    after.tensors[f"{full}.weight"] += rng.normal(0, 1, after.tensors[f"{full}.weight"].shape).astype(np.float32)
    after.config["diffusion"] = {"attention": "block", "mask_token_id": 3}
    tokenizer = train_tokenizer("smollm")
    folders = [model.save(folder / name, tokenizer) for name, model in (("before", before), ("after", after))]
    pairs, config, row = pairs_of_change(folders[1], folders[0], 16)
    assert len(pairs) == 14 and config["r"] == config["lora_alpha"] == 16 and config["diffusion"]["mask_token_id"] == 3
    assert np.array_equal(row, after.tensors["model.embed_tokens.weight"][3:4])
    for name in (low, full):
        change = after.tensors[f"{name}.weight"].astype(np.float64) - before.tensors[f"{name}.weight"]
        down, up = pairs[f"base_model.model.{name}"]
        singular = np.linalg.svd(change, compute_uv=False)
        best = np.sqrt(np.square(singular[16:]).sum())
        assert abs(np.linalg.norm(change - up.astype(np.float64) @ down) - best) < 1e-4 * singular[0], name


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


def lists_of_ids_are_texts(folder: pathlib.Path) -> None:
    """Data for training, with texts and with the ids that they are."""
    tokenizer = train_tokenizer("smollm")
    base = TinyModel(51).save(folder / "ids-base", tokenizer)
    lines = [("def main", " return 3"), ("the day", " is long and the night")]
    ids = [[tokenizer.encode(text).ids for text in line] for line in lines]
    logs = []
    for name, data in (("text", lines), ("ids", ids)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"prompt": prompt, "completion": answer}) + "\n" for prompt, answer in data))
        (folder / f"{name}.toml").write_text(f"""
out = "{folder}/run-{name}"
steps = 3
[model]
path = "{base}"
[data]
path = "{path}"
batch_sequences = 2
[optimizer]
learning_rate = 1e-2
""")
        succeed("train", folder / f"{name}.toml")
        log = (folder / f"run-{name}/log.jsonl").read_text().splitlines()
        logs.append([(entry["loss"], entry["tokens"]) for entry in map(json.loads, log)])
    assert logs[0] == logs[1], logs
    (folder / "ids.jsonl").write_text('{"prompt": [3, -1], "completion": "x"}\n')
    check_fails("ids.jsonl:1: expected", "train", folder / "ids.toml", "--resume")
    many = ['{"text": "the day"}'] * 800  # which threads share
    for wrong in (700, 400):
        many[wrong - 1] = '{"txt": 1}'
        (folder / "ids.jsonl").write_text("\n".join(many))
        check_fails(f"ids.jsonl:{wrong}: expected", "train", folder / "ids.toml", "--resume")


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
        packed_adapters_make_diffusion_models(folder)
        changes_of_whole_training_are_packed(folder)
        numpy_answers_as_the_program_does(folder)
        lists_of_ids_are_texts(folder)
        batches_are_asked_and_scored(folder)
        print("adapters: merged weights, errors, a trained ranker, many queries, int8")


main()
