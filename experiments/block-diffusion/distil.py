#!/usr/bin/env python3
"""Answers of the base model itself to open questions, by greedy decoding: what an adapted model is to keep.

    experiments/block-diffusion/distil.py --perpend build/torch/bin/perpend --model smollm2-135m-instruct \\
        --out runs/distilled.npz --questions gsm8k/train.jsonl --seconds 120

Stops by itself when the time is over, with what there is. Kept are answers that end by themselves within --max-tokens and
in which no four tokens in a row come three times.
"""

import argparse
import collections
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from prompts import open_prompts, read_questions
from runs import Program

END = 2  # <|im_end|>
MOST_BYTES = 16 << 20


def is_good(answer: list[int]) -> bool:
    """`answer` with its end."""
    grams = collections.Counter(zip(answer, answer[1:], answer[2:], answer[3:]))
    return len(answer) > 1 and answer[-1] == END and max(grams.values(), default=0) < 3


def good_answers(lines: list[str]) -> list[tuple[list[int], list[int]]]:
    """(ids of the prompt, ids of the answer with its end) of what `perpend generate --batch --ids` printed."""
    pairs = []
    for line in lines:
        result = json.loads(line)
        if result.get("finish_reason") != "stop":
            continue
        answer = result["answer_ids"]
        if answer[-1:] != [END]:
            answer = [*answer, END]
        if is_good(answer):
            pairs.append((result["prompt_ids"], answer))
    return pairs


def write_distilled(path: pathlib.Path, pairs: list[tuple[list[int], list[int]]]) -> int:
    """As many as fit; how many that is."""
    sizes = np.cumsum([2 * (len(prompt) + len(answer)) + 4 for prompt, answer in pairs])
    kept = pairs[: int(np.searchsorted(sizes, MOST_BYTES - 4096))]
    tokens = np.array([token for prompt, answer in kept for token in prompt + answer], np.uint16)
    lengths = np.array([(len(prompt), len(answer)) for prompt, answer in kept], np.uint16).reshape(-1, 2)
    staging = path.with_name(path.name + ".tmp.npz")
    np.savez(staging, tokens=tokens, lengths=lengths)
    staging.replace(path)
    return len(kept)


def read_distilled(path: pathlib.Path) -> list[tuple[list[int], list[int]]]:
    with np.load(path) as stored:
        tokens, lengths = stored["tokens"], stored["lengths"].astype(np.int64)
    ends = lengths.ravel().cumsum()
    parts = [part.tolist() for part in np.split(tokens, ends[:-1])] if len(ends) else []
    return list(zip(parts[::2], parts[1::2]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perpend", required=True, help="path of the program")
    parser.add_argument("--model", required=True, help="SmolLM2-135M-Instruct: a file, a folder or a fetched model's name")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--questions", type=pathlib.Path, help='more prompts: lines of JSON with the key "question"')
    parser.add_argument("--count", type=int, default=1 << 20, help="prompts, at most")
    parser.add_argument("--part", default="0/1", help="0/2 and 1/2: halves of the prompts")
    parser.add_argument("--seconds", type=float, default=1e6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    prompts = open_prompts(held_out=False)
    if options.questions:
        prompts += read_questions(options.questions)
    order = np.random.default_rng(1).permutation(len(prompts))[: options.count]
    part, parts = map(int, options.part.split("/"))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    requests, answers = (options.out.with_suffix(suffix) for suffix in (".prompts.jsonl", ".answers.jsonl"))
    requests.write_text("".join(json.dumps({"id": str(i), "prompt": prompts[i]}) + "\n" for i in order[part::parts]))
    program = Program(options.perpend, time.monotonic() + options.seconds)
    flags = ["--model", options.model, "--device", options.device, "--temperature", 0, "--max-tokens", options.max_tokens]
    flags += ["--batch-size", options.batch_size, "--ids"]
    finished = program.run_into(answers, "generate", "--batch", requests, *flags, log=options.out.with_suffix(".log"))
    lines = answers.read_text().splitlines()
    kept = write_distilled(options.out, good_answers(lines))
    print(f"{len(lines)} answers{'' if finished else ' until the time was over'}, {kept} kept, {options.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
