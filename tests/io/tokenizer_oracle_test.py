"""Holds tokenizers against PyPI tokenizers: ids, offsets, decoded and streamed text on a torture text and random
strings, for small vocabularies trained here; and the same vocabularies read from GGUF files."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import gguf_vocabularies
from campaign import num_trials
from random_text import TORTURE, RandomText
from tokenizer_families import FAMILIES

# Families whose classes come from the regex engine alone; the other parts of PyPI tokenizers know older Unicode.
UNICODE_16 = ("gpt2", "roberta", "smollm", "llama3", "qwen2", "llama2", "metaspace_first", "metaspace_always")
TOOL = sys.argv[1]
ONLY = sys.argv[2:]


def answers_of(path, texts, special):
    lines = "".join(json.dumps({"text": text, "special": special}) + "\n" for text in texts).encode()
    out = subprocess.run([TOOL, path], input=lines, stdout=subprocess.PIPE, check=True).stdout
    answers = [json.loads(line) for line in out.decode().splitlines()]
    assert len(answers) == len(texts)
    return answers


def expected(tokenizer, texts, special):
    for begin in range(0, len(texts), 1000):
        encodings = tokenizer.encode_batch(texts[begin : begin + 1000], add_special_tokens=special)
        decoded = tokenizer.decode_batch([e.ids for e in encodings], skip_special_tokens=False)
        for encoding, text in zip(encodings, decoded):
            offsets = [list(pair) for pair in encoding.offsets]
            yield {"ids": encoding.ids, "offsets": offsets, "text": text, "streamed": text}


def differences(name, path, tokenizer, texts, special, keys):
    wrong = 0
    for text, ours, theirs in zip(texts, answers_of(path, texts, special), expected(tokenizer, texts, special)):
        unequal = [key for key in keys if ours[key] != theirs[key]]
        if unequal:
            wrong += 1
            if wrong <= 3:
                print(f"{name}: {text[:200]!r}")
                for key in unequal:
                    print(f"  {key}: tokenizers {theirs[key]!r}\n  {key}: perpend    {ours[key]!r}")
    print(f"{name}: {len(texts)} texts, {wrong} differ", flush=True)
    return wrong


def main():
    seed = 20260101
    print("seed", seed)
    texts_of = {}
    for recent in (False, True):
        random_text = RandomText(random.Random(seed), recent)
        texts_of[recent] = TORTURE + [random_text() for _ in range(num_trials(4000))]
    training = TORTURE * 3 + [path.read_text() for path in sorted(pathlib.Path(__file__).parent.glob("*.py"))]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, train) in enumerate(FAMILIES.items()):
            if ONLY and name not in ONLY:
                continue
            tokenizer = train(training)
            path = os.path.join(folder, name + ".json")
            tokenizer.save(path)
            special = index % 2 == 0
            texts = texts_of[name in UNICODE_16]
            wrong += differences(name, path, tokenizer, texts, special, ["ids", "offsets", "text", "streamed"])
            if name == "llama2":
                path = os.path.join(folder, "tokenizer.model")
                joined = gguf_vocabularies.write_sentencepiece(tokenizer, path)
                wrong += differences("llama2 as SentencePiece", path, joined, texts, True, ["ids"])
            if name in gguf_vocabularies.WRITERS:
                path = os.path.join(folder, name + ".gguf")
                tokenizer = gguf_vocabularies.WRITERS[name](tokenizer, path)
                # GGUF marks the beginning of BERT's words so.
                plain = [text for text in texts if name != "bert" or gguf_vocabularies.SPACE not in text]
                wrong += differences(name + " in GGUF", path, tokenizer, plain, special, ["ids"])
    assert wrong == 0, f"{wrong} differ"


main()
