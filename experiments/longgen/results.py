"""Table, plot and verdict of LongGen's experiment, from what `perpend evaluate` printed."""

import dataclasses
import math
import pathlib
import statistics
import sys

from protocol import Scale
from records import GROUP_TOKENS, TWO_HOPS

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from line_plot import write_line_plot

NAMES = {
    "A": "A: before it is made long",
    "F": "F: full",
    "H": "H: hybrid, full in the middle",
    "S": "S: sparse",
    "E": "E: hybrid, full at the ends",
    "F->H": "F->H: trained full, run hybrid",
    "F->S": "F->S: trained full, run sparse",
}
BIN = 256  # tokens, of the plot


@dataclasses.dataclass
class Share:
    right: int = 0
    count: int = 0

    def percent(self) -> float:
        return 100 * self.right / self.count if self.count else float("nan")


def share(evaluation: dict, first: int, end: int = 1 << 15, two_hops: bool = False) -> Share:
    """Of the questions whose record lies [first, end) tokens back."""
    total = Share()
    for name, score in evaluation["groups"].items():
        hops, block = divmod(int(name), TWO_HOPS)
        if bool(hops) == two_hops and first <= block * GROUP_TOKENS < end:
            total.right += round(score["exact_match"] * score["targets"])
            total.count += score["targets"]
    return total


def columns(scale: Scale) -> dict[str, tuple[int, int, int, bool]]:
    """Of the table: length of the test, range of distances, two hops or one."""
    longest = max(scale.test_sequences)
    end = 1 << 15
    by_length = {f"{length}": (length, 0, end, False) for length in sorted(scale.test_sequences)}
    return by_length | {
        f"{longest}, <= {scale.window} back": (longest, 0, scale.window, False),
        f"> {scale.window} back": (longest, scale.window, end, False),
        f"> {scale.far} back": (longest, scale.far, end, False),
        "two hops": (longest, 0, end, True),
    }


def rows(scale: Scale, runs: dict[int, dict[str, dict[int, dict]]]) -> dict[str, dict[str, list[float]]]:
    """Percent by arm, column and seed. runs: by seed, arm and length what was printed."""
    table: dict[str, dict[str, list[float]]] = {}
    for arms in runs.values():
        for arm, evaluations in arms.items():
            row = table.setdefault(arm, {})
            for name, (length, first, end, two_hops) in columns(scale).items():
                row.setdefault(name, []).append(share(evaluations[length], first, end, two_hops).percent())
    return {arm: table[arm] for arm in NAMES if arm in table}


def cell(values: list[float]) -> str:
    if math.isnan(sum(values)):
        return ""  # no such questions
    text = f"{statistics.fmean(values):.1f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.1f}"


def markdown(table: dict[str, dict[str, list[float]]]) -> str:
    names = list(next(iter(table.values())))
    lines = ["| arm | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for arm, row in table.items():
        seeds = len(next(iter(row.values())))
        lines.append(f"| {NAMES[arm]} | {seeds} | " + " | ".join(cell(row[name]) for name in names) + " |")
    return "\n".join(lines) + "\n"


def verdicts(scale: Scale, table: dict[str, dict[str, list[float]]]) -> dict[str, bool]:
    """The claim, in means over seeds, of records far away; without arms that were not run."""
    far = {arm: statistics.fmean(row[f"> {scale.far} back"]) for arm, row in table.items()}
    claims = {
        "H >= F - 2 points": ("H", "F", lambda h, f: h >= f - 2),
        "S <= F - 30 points": ("S", "F", lambda s, f: s <= f - 30),
        "F->S <= F - 30 points": ("F->S", "F", lambda s, f: s <= f - 30),
        "F->H <= H": ("F->H", "H", lambda a, b: a <= b),
    }
    known = {arm for arm, percent in far.items() if not math.isnan(percent)}
    return {text: holds(far[a], far[b]) for text, (a, b, holds) in claims.items() if {a, b} <= known}


def plot(scale: Scale, runs: dict[int, dict[str, dict[int, dict]]], path: pathlib.Path) -> None:
    """Exact match of single hops by distance, in the longest test, means over seeds."""
    longest = max(scale.test_sequences)
    size = min(BIN, longest // 4)
    series = {}
    for arm, name in NAMES.items():
        points = []
        for first in range(0, longest, size):
            values = [share(arms[arm][longest], first, first + size) for arms in runs.values() if arm in arms]
            shares = [value.percent() for value in values if value.count]
            if shares:
                spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
                points.append((first + size / 2, statistics.fmean(shares), spread))
        series[name] = points
    write_line_plot(path, f"Recall by distance, {longest} tokens", "tokens from record to question", "% exact", series)
