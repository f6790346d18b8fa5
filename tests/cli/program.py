"""The program as a user starts it, for tests called as TEST PROGRAM [MODEL]."""

import json
import os
import subprocess
import sys

PROGRAM = sys.argv[1]
MODEL = sys.argv[2] if len(sys.argv) > 2 else ""
GREEDY = ["--temperature", "0"]


def environment(**variables: str) -> dict[str, str]:
    """The test's own, without flags of the user who runs it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPEND_")}
    return kept | ({"PERPEND_MODEL": MODEL} if MODEL else {}) | variables


def run(*arguments: object, stdin: str = "", timeout: float = 60, **variables: str) -> subprocess.CompletedProcess:
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment(**variables), timeout=timeout)


def output_of(*arguments: object, **more: str) -> str:
    result = run(*arguments, **more)
    assert result.returncode == 0, (arguments, result)
    return result.stdout


def generate(*arguments: object, **more: str) -> dict:
    """The one object of `generate --json`."""
    text = output_of("generate", *arguments, "--json", **more)
    assert text.count("\n") == 1 and text.endswith("\n"), text
    return json.loads(text)


def long_text(words: int) -> str:
    nouns = ["river", "mountain", "garden", "bread", "window", "stone", "children", "evening"]
    return " ".join(f"the {nouns[i * i % 8]} and the {nouns[i * 5 % 7]}" for i in range(words // 5))
