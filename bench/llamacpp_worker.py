"""One run of llama.cpp through llama-cpp-python's C interface, called by compare_llamacpp.py.

Prints one JSON object: prefill_tokens_per_s, decode_tokens_per_s, peak anonymous bytes, and on the
machine's monotonic clock when the library was loaded and when the first token was known. Tokens are
chosen by numpy's argmax on the library's own logits, so that nothing of Python's samplers is timed.
"""

import argparse
import json
import pathlib
import time

import llama_cpp
import numpy as np


def quiet(_level, _text, _user):
    pass


QUIET = llama_cpp.llama_log_callback(quiet)


class Session:
    def __init__(self, model_path, threads, context_length):
        llama_cpp.llama_log_set(QUIET, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            model_path.encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context_length
        params.n_batch = context_length
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def encode(self, text):
        raw = text.encode()
        buffer = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, raw, len(raw), buffer, len(buffer), False, True)
        return list(buffer[:count])

    def next_token(self, tokens):
        """Runs `tokens` and returns the likeliest one after them."""
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())


def anonymous_bytes():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("prompt_file", type=pathlib.Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--context", type=int, default=2048)
    arguments = parser.parse_args()

    loaded = time.monotonic()
    session = Session(arguments.model, arguments.threads, arguments.context)
    tokens = session.encode(arguments.prompt_file.read_text())
    start = time.perf_counter()
    token = session.next_token(tokens)
    first = time.perf_counter()
    first_token = time.monotonic()
    for _ in range(arguments.new_tokens - 1):
        token = session.next_token([token])
    decode_s = time.perf_counter() - first
    print(
        json.dumps(
            {
                "prompt_tokens": len(tokens),
                "prefill_tokens_per_s": len(tokens) / (first - start),
                "decode_tokens_per_s": (arguments.new_tokens - 1) / decode_s if arguments.new_tokens > 1 else 0,
                "library_loaded": loaded,
                "first_token": first_token,
                "anonymous_bytes": anonymous_bytes(),
            }
        )
    )


if __name__ == "__main__":
    main()
