"""Lets the base model say in its own words what somebody wants who needs a package.

ask_model.py PERPEND PACKAGES.jsonl OUT.jsonl --split SPLIT --count N: lines {"id", "text"}; goes on where it stopped.
"""

import argparse
import json
import pathlib
import re
import subprocess

from packages import Package, chosen, read_packages
from rewording import STOP_WORDS

EXAMPLES = """Each line has what a program is, and what somebody who needs it asks for in other words.
Program: text mode Twitch client. Wanted: watch live streams in a terminal
Program: image viewer for X. Wanted: look at pictures
Program: fast lossless compression library. Wanted: make files smaller quickly
Program: monitor the status of network hosts. Wanted: get an alert when a server goes down
Program: typesetting of musical notation. Wanted: print sheet music
"""


def words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z0-9]{3,}", text.lower()) if word not in STOP_WORDS}


def answer(program: str, package: Package) -> str:
    command = [program, "generate", "-", "--raw", "--max-tokens", "20", "--temperature", "0.5", "--seed", "3"]
    prompt = f"{EXAMPLES}Program: {package.synopsis}. Wanted:"
    result = subprocess.run([*command, "--threads", "1", "--stop", "\n"], input=prompt, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    return result.stdout.strip().split(". Wanted")[0]


def is_usable(text: str, package: Package) -> bool:
    """A small model often loses the thread: what it says must be about the package, and not the synopsis again."""
    shared = words(text) & (words(package.synopsis) | words(package.text))
    return 2 <= len(text.split()) <= 16 and bool(shared) and text.lower() != package.synopsis.lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("packages", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--split", choices=["train", "validation", "test"], required=True)
    parser.add_argument("--count", type=int, required=True, help="packages that are asked about")
    options = parser.parse_args()
    asked = chosen(read_packages(options.packages), options.split, 1, options.count)
    done = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    known = {json.loads(line)["id"] for line in done}
    with options.out.open("a", encoding="utf-8") as out:
        for package in asked:
            if package.id in known:
                continue
            text = answer(options.program, package)
            line = {"id": package.id, "text": text if is_usable(text, package) else ""}
            out.write(json.dumps(line) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
