"""Makes queries of Debian's packages, and lists of documents to train on.

make_lists.py PERPEND PACKAGES.jsonl OUT [--train N] [--test N]: writes into OUT
  test.jsonl, validation.jsonl      queries for `perpend rank --queries` {"id", "text"}; the id names the package that
                                    answers and, behind a '#', who made the query of its synopsis
  train.jsonl                       prompts for `perpend rank-prompts` {"query", "documents", "answer_ids"}
Queries that the base model made (ask_model.py) are taken from OUT/model-SPLIT.jsonl where that is there.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
from collections.abc import Iterator

from packages import Package, chosen, read_packages, split_of
from rewording import reworded

NUM_DOCUMENTS = 30
NUM_FROM_BM25 = 21  # of the best hundred
NUM_FROM_SECTION = 4
NUM_LISTED = 100


def queries_of(package: Package, by_model: dict[str, str]) -> Iterator[dict]:
    text = reworded(package.synopsis, package.id, random.Random(f"reword {package.id}"))
    yield {"id": f"{package.id}#rules", "text": text}
    if by_model.get(package.id):
        yield {"id": f"{package.id}#model", "text": by_model[package.id]}


def read_model_queries(path: pathlib.Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return {line["id"]: line["text"] for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def write_lines(path: pathlib.Path, lines: list[dict]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def first_stage(program: str, queries: pathlib.Path, docs: str) -> Iterator[tuple[str, list[str]]]:
    """The packages that BM25 finds for each query, best first."""
    command = [program, "rank", "--queries", str(queries), "--docs", docs, "--bm25", "--top", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in map(json.loads, process.stdout):
            yield line["query"], [result["id"] for result in line["results"]]
    if process.returncode != 0:
        raise SystemExit(process.returncode)


class Negatives:
    """Packages that do not answer a query: hard ones and others. None is held out, none has the answer's text."""

    def __init__(self, packages: list[Package]):
        self.by_id = {package.id: package for package in packages}
        self.usable = [package.id for package in packages if split_of(package) == "train"]
        self.sections = collections.defaultdict(list)
        for name in self.usable:
            self.sections[self.by_id[name].section].append(name)
        self.usable_set = set(self.usable)

    def draw(self, answer: Package, found: list[str], rng: random.Random) -> list[str]:
        fits = lambda name: name in self.usable_set and self.by_id[name].text != answer.text
        hard = [name for name in found if name != answer.id and fits(name)]
        names = dict.fromkeys(rng.sample(hard, min(NUM_FROM_BM25, len(hard))))
        for pool, count in ((self.sections[answer.section], NUM_FROM_SECTION), (self.usable, NUM_DOCUMENTS)):
            target = min(NUM_DOCUMENTS - 1, len(names) + count)
            for name in rng.sample(pool, min(len(pool), 2 * NUM_DOCUMENTS)):
                if len(names) < target and name != answer.id and fits(name):
                    names[name] = None
        return list(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("packages", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--train", type=int, default=20000, help="packages, each of another source")
    parser.add_argument("--test", type=int, default=1000)
    options = parser.parse_args()
    packages = read_packages(options.packages)
    for split, most in (("test", options.test), ("validation", 200)):
        by_model = read_model_queries(options.out / f"model-{split}.jsonl")
        asked = chosen(packages, split, 1, most)
        write_lines(options.out / f"{split}.jsonl", [query for p in asked for query in queries_of(p, by_model)])

    by_model = read_model_queries(options.out / "model-train.jsonl")
    queries = [query for p in chosen(packages, "train", 1, options.train) for query in queries_of(p, by_model)]
    texts = {query["id"]: query["text"] for query in queries}
    asked = options.out / "train-queries.jsonl"
    write_lines(asked, queries)
    negatives = Negatives(packages)
    prompts = []
    for query, found in first_stage(options.program, asked, "debian"):
        answer = negatives.by_id[query.split("#")[0]]
        rng = random.Random(f"list {query}")
        documents = [answer.id, *negatives.draw(answer, found, rng)]
        rng.shuffle(documents)
        prompts.append({"query": texts[query], "documents": documents, "answer_ids": [answer.id]})
    write_lines(options.out / "train.jsonl", prompts)
    print(f"{len(prompts)} prompts to train on")


if __name__ == "__main__":
    main()
