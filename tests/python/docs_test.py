"""Runs the Python snippets of docs/python.md, one after another in one namespace."""

import pathlib
import re

import torch

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"

torch.manual_seed(0)
text = PAGE.read_text()
namespace: dict[str, object] = {}
snippets = list(re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S))
for match in snippets:
    line = text.count("\n", 0, match.start(1))
    exec(compile("\n" * line + match.group(1), PAGE, "exec"), namespace)
assert snippets, "docs/python.md has no snippet"
print(f"{len(snippets)} snippets ran")
