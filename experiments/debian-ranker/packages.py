"""Debian's packages as documents and as queries, split by source package."""

import collections
import hashlib
import json
import pathlib
from typing import NamedTuple

TEST_SHARE = 0.05
VALIDATION_SHARE = 0.01


class Package(NamedTuple):
    id: str
    source: str
    section: str
    synopsis: str
    text: str


def read_packages(path: pathlib.Path) -> list[Package]:
    """What `perpend rank --docs debian` keeps in PERPEND_HOME/debian/packages.jsonl."""
    with path.open(encoding="utf-8") as lines:
        return [Package(**json.loads(line)) for line in lines]


def draw(*key: object) -> float:
    """A number in [0, 1) that depends on `key` alone, on every machine."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def split_of(package: Package) -> str:
    """All packages of a source are on one side: their descriptions share paragraphs."""
    share = draw("split", package.source)
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


def with_one_answer(packages: list[Package]) -> list[Package]:
    """Those whose synopsis asks for one package: nothing else has its synopsis or its text."""
    synopses = collections.Counter(package.synopsis.lower() for package in packages)
    texts = collections.Counter(package.text for package in packages)
    return [p for p in packages if synopses[p.synopsis.lower()] == 1 and texts[p.text] == 1 and p.synopsis]


def chosen(packages: list[Package], split: str, per_source: int, most: int) -> list[Package]:
    """Packages of a split that queries are made of, in an order drawn once for all; at most `per_source` of each
    source, so that no family of hundreds of packages outweighs all others."""
    order = sorted(
        (p for p in with_one_answer(packages) if split_of(p) == split), key=lambda p: draw("order", p.id)
    )
    taken: collections.Counter[str] = collections.Counter()
    result = []
    for package in order:
        if taken[package.source] == per_source or len(result) == most:
            continue
        taken[package.source] += 1
        result.append(package)
    return result
