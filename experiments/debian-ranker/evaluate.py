"""Scores rankings of the held-out queries.

evaluate.py TEST.jsonl NAME=RUN.jsonl ...: RUN is what `perpend rank --queries TEST.jsonl` printed. One package answers a
query, so that nDCG@10 = 1 / log2(1 + rank) and MRR@10 = 1 / rank of that package where it is among the first ten, else
0. Prints a table, and the standard error of each mean.
"""

import json
import math
import pathlib
import sys
from collections.abc import Callable


def read_ranks(path: pathlib.Path) -> dict[str, int | None]:
    """From 1; none where the package was not among those listed."""
    ranks = {}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        ids = [result["id"] for result in line["results"]]
        answer = line["query"].split("#")[0]
        ranks[line["query"]] = ids.index(answer) + 1 if answer in ids else None
    return ranks


def ndcg(rank: int | None) -> float:
    return 1 / math.log2(1 + rank) if rank is not None and rank <= 10 else 0.0


def mrr(rank: int | None) -> float:
    return 1 / rank if rank is not None and rank <= 10 else 0.0


def first(rank: int | None) -> float:
    return float(rank == 1)


def mean(metric: Callable[[int | None], float], ranks: list[int | None]) -> str:
    values = [metric(rank) for rank in ranks]
    average = sum(values) / len(values)
    variance = sum((value - average) ** 2 for value in values) / max(1, len(values) - 1)
    return f"{average:.3f} ± {math.sqrt(variance / len(values)):.3f}"


def main() -> None:
    test, *runs = sys.argv[1:]
    queries = [json.loads(line)["id"] for line in pathlib.Path(test).read_text(encoding="utf-8").splitlines()]
    print("| queries | ranking | nDCG@10 | MRR@10 | first | listed |")
    print("|---|---|---|---|---|---|")
    for kind in ("rules", "model"):
        ids = [query for query in queries if query.endswith(f"#{kind}")]
        for run in runs if ids else []:
            name, path = run.split("=", 1)
            ranks = read_ranks(pathlib.Path(path))
            found = [ranks[query] for query in ids]
            listed = sum(rank is not None for rank in found) / len(found)
            metrics = " | ".join(mean(metric, found) for metric in (ndcg, mrr, first))
            print(f"| {len(ids)} by {kind} | {name} | {metrics} | {listed:.3f} |")


if __name__ == "__main__":
    main()
