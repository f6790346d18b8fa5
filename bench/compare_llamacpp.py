#!/usr/bin/env python3
"""Perpend beside llama.cpp on the same GGUF file, threads and prompt, in one run.

    bench/compare_llamacpp.py [--threads N] [--rounds 5] [--json FILE] [--check]

Alternates whole processes of both and prints medians: prefill of a prompt of 512 tokens, greedy decode of
128 tokens after it, the time from the start of a process to its first token (a short prompt, files in the
page cache), and the peak of anonymous memory beside model file + KV + what a program holds that only loads
LibTorch. llama-cpp-python is built from PyPI the first time (about 10 minutes on 2 cores). --check ends
with status 1 when a floor is missed.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = pathlib.Path(
    os.environ.get("PERPEND_HOME")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "perpend"
)
PEER_VERSION = "0.3.36"
DEFAULT_MODEL = HOME / "models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
SHORT_PROMPT = "The capital of France is"
PROMPT_TOKENS = 512
NEW_TOKENS = 128
# (what, unit, floor of Perpend / llama.cpp, goal; for times the ratio is a ceiling)
RATES = [("decode_tokens_per_s", "tokens/s", 1.0, 1.2), ("prefill_tokens_per_s", "tokens/s", 0.8, 1.2)]
START_CEILING = 1.5
MEMORY_CEILING = 1.4


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def peer_python():
    venv = HOME / f"venv/llamacpp-{PEER_VERSION}"
    if not (venv / "complete").exists():
        say(f"building llama-cpp-python {PEER_VERSION} (about 10 minutes, once) ...")
        # GCC 12 drops the stores that AMX instructions read: llama.cpp then ends with a signal.
        amx = " amx_tile" in pathlib.Path("/proc/cpuinfo").read_text()
        compilers = {"CC": "clang-16", "CXX": "clang++-16"} if amx and shutil.which("clang++-16") else {}
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run(
            [venv / "bin/pip", "install", "--quiet", f"llama-cpp-python=={PEER_VERSION}", "numpy"],
            check=True,
            env={**os.environ, **compilers},
        )
        (venv / "complete").touch()
    return venv / "bin/python"


def build_perpend():
    """The release build of ./run, and the program that only loads LibTorch."""
    subprocess.run([ROOT / "run", "--version"], check=True, stdout=subprocess.DEVNULL)
    build = ROOT / "build/torch"
    subprocess.run(["cmake", "--build", build, "--target", "torch_baseline"], check=True, stdout=subprocess.DEVNULL)
    return build / "bin/perpend", build / "bench/torch_baseline"


class PeakAnonymous(threading.Thread):
    """The largest RssAnon that a process shows, looked at every 2 ms."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status = pathlib.Path(f"/proc/{pid}/status")
        self.peak = 0
        self.start()

    def run(self):
        while True:
            try:
                text = self.status.read_text()
            except OSError:
                return
            if "RssAnon:" not in text:
                return
            self.peak = max(self.peak, int(text.split("RssAnon:")[1].split()[0]) * 1024)
            time.sleep(0.002)


def run_perpend(program, model, prompt_file, threads, new_tokens):
    command = [program, "generate", "-", "--raw", "--json", "--temperature", "0", "--model", model]
    command += ["--max-tokens", str(new_tokens), "--threads", str(threads)]
    with prompt_file.open() as prompt:
        process = subprocess.Popen(command, stdin=prompt, stdout=subprocess.PIPE, text=True)
    memory = PeakAnonymous(process.pid)
    result = json.loads(process.communicate()[0])
    memory.join()
    result["anonymous_bytes"] = memory.peak
    if process.returncode != 0 or result["completion_tokens"] != new_tokens:
        sys.exit(f"perpend stopped after {result['completion_tokens']} of {new_tokens} tokens: other prompt needed")
    return result


def run_peer(python, model, prompt_file, threads, new_tokens):
    command = [python, ROOT / "bench/llamacpp_worker.py", model, prompt_file]
    command += ["--threads", str(threads), "--new-tokens", str(new_tokens)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def perpend_start(program, model, prompt_file, threads):
    """Seconds from starting the program to its first character of text."""
    command = [program, "generate", "-", "--raw", "--temperature", "0", "--model", model]
    command += ["--max-tokens", "1", "--threads", str(threads)]
    start = time.monotonic()
    with prompt_file.open() as prompt:
        process = subprocess.Popen(command, stdin=prompt, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.read(1)
    seconds = time.monotonic() - start
    process.communicate()
    return seconds


def peer_start(python, model, prompt_file, threads):
    """The same of llama.cpp: with the start of Python, and from the loaded library on."""
    start = time.monotonic()
    result = run_peer(python, model, prompt_file, threads, 1)
    return result["first_token"] - start, result["first_token"] - result["library_loaded"]


def prompt_of(python, model, folder):
    """A file with the longest beginning of the golden text that has PROMPT_TOKENS tokens."""
    script = (
        "import sys, llama_cpp; m = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)\n"
        "text = open(sys.argv[2]).read()\n"
        "count = lambda n: len(m.tokenize(text[:n].encode(), add_bos=False))\n"
        "print(next(n for n in range(len(text), 0, -1) if n < 6000 and count(n) == int(sys.argv[3])))"
    )
    text_file = ROOT / "tests/golden/text.txt"
    command = [python, "-c", script, model, text_file, str(PROMPT_TOKENS)]
    length = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    prompt_file = pathlib.Path(folder) / "prompt.txt"
    prompt_file.write_text(text_file.read_text()[:length])
    return prompt_file


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0] if isinstance(runs[0][key], (int, float))}


def measure(arguments, folder):
    python = peer_python()
    program, baseline = build_perpend()
    model, threads = arguments.model, arguments.threads
    prompt = prompt_of(python, model, folder)
    short = pathlib.Path(folder) / "short.txt"
    short.write_text(SHORT_PROMPT)
    ours, theirs, our_starts, their_starts = [], [], [], []
    for round_number in range(arguments.rounds + 1):
        say(f"round {round_number} of {arguments.rounds}" + (" (not counted)" if round_number == 0 else ""))
        pair = (
            run_perpend(program, model, prompt, threads, NEW_TOKENS),
            run_peer(python, model, prompt, threads, NEW_TOKENS),
            perpend_start(program, model, short, threads),
            peer_start(python, model, short, threads),
        )
        if round_number > 0:
            for runs, result in zip((ours, theirs, our_starts, their_starts), pair):
                runs.append(result)
    if ours[0]["prompt_tokens"] != PROMPT_TOKENS or theirs[0]["prompt_tokens"] != PROMPT_TOKENS:
        sys.exit(f"the prompt has {ours[0]['prompt_tokens']} and {theirs[0]['prompt_tokens']} tokens")
    return {
        "model": pathlib.Path(model).name,
        "threads": threads,
        "rounds": arguments.rounds,
        "perpend": medians(ours),
        "llamacpp": medians(theirs),
        "start_s": {
            "perpend": statistics.median(our_starts),
            "llamacpp_with_python": statistics.median(start for start, _ in their_starts),
            "llamacpp_library": statistics.median(start for _, start in their_starts),
        },
        "model_bytes": os.path.getsize(model),
        "torch_bytes": int(subprocess.run([baseline], check=True, stdout=subprocess.PIPE, text=True).stdout),
    }


def report(result):
    """Prints the figures; returns whether every floor holds."""
    ours, theirs, start = result["perpend"], result["llamacpp"], result["start_s"]
    good = True
    print(f"{result['model']}, {result['threads']} threads, medians of {result['rounds']} alternations")
    print(f"{'':34}{'perpend':>12}{'llama.cpp':>12}{'ratio':>8}   floor")
    for key, unit, floor, goal in RATES:
        ratio = ours[key] / theirs[key]
        good &= ratio >= floor
        name = key.split("_")[0] + ", " + unit
        print(f"{name:34}{ours[key]:12.1f}{theirs[key]:12.1f}{ratio:8.2f}   >= {floor} (goal {goal})")
    for key in ("llamacpp_with_python", "llamacpp_library"):
        ratio = start["perpend"] / start[key]
        name = "start to first token, ms" + (" (library)" if key == "llamacpp_library" else "")
        ceiling = f"<= {START_CEILING}" if key == "llamacpp_with_python" else ""
        print(f"{name:34}{start['perpend'] * 1e3:12.0f}{start[key] * 1e3:12.0f}{ratio:8.2f}   {ceiling}")
    good &= start["perpend"] <= START_CEILING * start["llamacpp_with_python"]
    parts = [("model file", result["model_bytes"]), ("KV pages", ours["kv_peak_bytes"]), ("LibTorch alone", result["torch_bytes"])]
    allowed = sum(size for _, size in parts)
    ratio = ours["anonymous_bytes"] / allowed
    good &= ratio <= MEMORY_CEILING
    print(f"peak anonymous memory, MB: perpend {ours['anonymous_bytes'] / 1e6:.1f}, llama.cpp {theirs['anonymous_bytes'] / 1e6:.1f}")
    print("  " + " + ".join(f"{name} {size / 1e6:.1f}" for name, size in parts) + f" = {allowed / 1e6:.1f}; ratio {ratio:.2f} (<= {MEMORY_CEILING})")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEFAULT_MODEL))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures to this file")
    parser.add_argument("--check", action="store_true", help="status 1 when a floor is missed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, folder)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    good = report(result)
    sys.exit(0 if good or not arguments.check else 1)


if __name__ == "__main__":
    main()
