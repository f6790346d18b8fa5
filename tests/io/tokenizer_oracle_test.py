"""Holds byte-level BPE against PyPI tokenizers: small vocabularies trained here with the pre-tokenizers of
GPT-2, SmolLM, Llama 3 and Qwen2; ids, decoded and streamed text on a torture text and random strings."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

TOOL = sys.argv[1]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

TORTURE = [
    "Hello, world! It's 2024's last day; they'll've gone. I'M HE'D WE'RE",
    "  leading and   inner    blanks \t tabs\n\nnew lines\r\n  \n   end   ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭 e\u0301 é Å ﬁ ﷺ",
    "日本語のテキスト 中文字符 한국어 ไทย हिन्दी العربية עברית",
    "def f(x):\n    return x ** 2  # 12345678901234567890 0.5e-10 ١٢٣ ⅷ ½",
    "\x00\x01\x1f\x7f\x80\u200b\u2028\u00a0\u3000 end",
    "ſ's 'ſ 'S 'Ll x'LLy ''' ' 's't",
    "a" * 3000 + " " * 500 + "\n" * 100,
    "<|endoftext|><|im_start|>user\nhi<|im_end|> <|im_end",
    "",
    " ",
]


def byte_level(**options):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def split(pattern):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"), byte_level(use_regex=False)]
    )


FAMILIES = {
    "gpt2": (None, byte_level()),
    "smollm": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])),
    "llama3": (None, split(LLAMA3)),
    "qwen2": (normalizers.NFC(), split(QWEN2)),
}


def train(normalizer, pre_tokenizer):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TORTURE * 3 + [pathlib.Path(__file__).read_text()], trainer)
    return tokenizer


def random_text(rng):
    ranges = [(0x20, 0x7F)] * 4 + [(0x9, 0xE), (0x80, 0x250), (0x300, 0x370), (0x400, 0x600), (0x900, 0xA00)]
    ranges += [(0x2000, 0x2070), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F300, 0x1F700), (0, 0xD800), (0xE000, 0x110000)]
    text = []
    for _ in range(rng.randint(0, 20)):
        low, high = rng.choice(ranges)
        text.append(chr(rng.randrange(low, high)) * rng.choice([1, 1, 1, 2, 4]))
        text.append(rng.choice(["", "", " ", "\n", "'s", "9"]))
    return "".join(text)


def main():
    seed = 20260101
    count = 100000 if os.environ.get("PERPEND_LONG") else 10000
    print("seed", seed)
    rng = random.Random(seed)
    wrong = 0
    for name, (normalizer, pre_tokenizer) in FAMILIES.items():
        tokenizer = train(normalizer, pre_tokenizer)
        texts = TORTURE + [random_text(rng) for _ in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            tokenizer.save(path)
            lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
            out = subprocess.run([TOOL, path], input=lines, stdout=subprocess.PIPE, check=True).stdout
        answers = [json.loads(line) for line in out.decode().splitlines()]
        assert len(answers) == len(texts)
        for text, answer in zip(texts, answers):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            if answer["ids"] != ids or answer["text"] != decoded or answer["streamed"] != decoded:
                wrong += 1
                if wrong <= 10:
                    print(f"{name}: {text!r}\n  tokenizers {ids} {decoded!r}\n  perpend    {answer}")
        print(f"{name}: {len(texts)} texts")
    assert wrong == 0, f"{wrong} differ"


main()
