"""What came of the runs: results.json, table.md and ranking.svg."""

import pathlib
import statistics

from line_plot import write_line_plot
from runs import write_json

WAYS = {"attention": "attention", "answer": "decoding"}


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def text_of(values: list[float], digits: int = 1, factor: float = 100) -> str:
    """Mean and, of several seeds, standard deviation."""
    if not values:
        return ""
    mean, spread = mean_and_spread([factor * value for value in values])
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "")


class Results:
    """Values by arm, way of reading the ranking, and list; one value a seed."""

    def __init__(self, scale, results: list[dict]):
        self.scale = scale
        self.results = results

    def of(self, arm: str, way: str, key: str, docs: int) -> list[float]:
        return [ranking[way][key] for ranking in self.rankings(arm, f"docs-{docs}") if key in ranking.get(way, {})]

    def rankings(self, arm: str, name: str) -> list[dict]:
        return [result["lists"][name]["ranking"] for result in self.results if result["arm"] == arm]

    def mean(self, *place: object) -> float | None:
        values = self.of(*place)
        return statistics.mean(values) if values else None

    def spread_over_orders(self, arm: str, way: str) -> list[float]:
        """Standard deviation of P@1 over orders of the same lists, a value a seed."""
        orders = [self.rankings(arm, f"order-{order}") for order in range(self.scale.evaluation["orders"])]
        by_seed = [[ranking[way]["p_at_1"] for ranking in seed if way in ranking] for seed in zip(*orders)]
        return [statistics.pstdev(values) for values in by_seed if values]


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, *rows]]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines) + "\n"


def quality_tables(results: Results, arms: dict) -> str:
    parts = []
    for title, key_of in (("P@1, %", {"attention": "p_at_1", "answer": "greedy"}), ("MRR@10, %", dict.fromkeys(WAYS, "mrr_at_10"))):
        rows = []
        for arm in arms.values():
            for way, name in WAYS.items():
                cells = [text_of(results.of(arm.name, way, key_of[way], docs)) for docs in results.scale.list_lengths]
                if any(cells):
                    rows.append([arm.name, arm.title, name, *cells])
        parts.append(f"{title}\n\n" + markdown_table(["arm", "", "read from", *[f"N = {docs}" for docs in results.scale.list_lengths]], rows))
    return "\n".join(parts)


def order_table(results: Results, arms: dict) -> str:
    ways = {"attention": "attention", "answer": "decoding", "one_pass": "one pass"}
    rows = []
    for arm in arms.values():
        cells = [text_of(results.spread_over_orders(arm.name, way), 2) for way in ways]
        if any(cells):
            rows.append([arm.name, *cells])
    return "Standard deviation of P@1 over orders of the same lists, points\n\n" + markdown_table(["arm", *ways.values()], rows)


def claims(results: Results) -> list[dict]:
    """The claims that the arms that ran can tell; `margin` is how far each holds, in points, negative where it does not."""
    docs = 30 if 30 in results.scale.list_lengths else results.scale.list_lengths[0]
    most = results.scale.list_lengths[-1]

    def p(arm: str, way: str, at: int = docs) -> float | None:
        return results.mean(arm, way, "greedy" if way == "answer" else "p_at_1", at)

    def mrr(arm: str, way: str) -> float | None:
        return results.mean(arm, way, "mrr_at_10", docs)

    sides = {
        f"P@1 of C by attention >= A by decoding - 1 point, N = {docs}": [(p("C", "attention"), 1), (p("A", "answer"), -1), (0.01, 1)],
        f"P@1 of C > B by attention, N = {docs}": [(p("C", "attention"), 1), (p("B", "attention"), -1)],
        f"C by attention falls less than A by decoding from N = {docs} to {most}": [
            (p("C", "attention", most), 1), (p("C", "attention"), -1), (p("A", "answer", most), -1), (p("A", "answer"), 1),
        ],
        f"MRR@10 of C by attention > A by decoding, N = {docs}": [(mrr("C", "attention"), 1), (mrr("A", "answer"), -1)],
        f"P@1 by decoding of D << C, N = {docs}": [(p("C", "answer"), 1), (p("D", "answer"), -1)],
        f"P@1 by attention of E < C, N = {docs}": [(p("C", "attention"), 1), (p("E", "attention"), -1)],
    }  # fmt: skip
    known = {claim: terms for claim, terms in sides.items() if all(value is not None for value, _ in terms)}
    return [{"claim": claim, "margin": 100 * sum(value * sign for value, sign in terms)} for claim, terms in known.items()]


def latency_table(times: list[dict]) -> str:
    rows = [
        [str(time["docs"]), str(time["tokens"]), *[f"{time[way + '_ms']:.2f}" for way in ("rank", "block", "causal")], f"{time['causal_over_rank']:.2f}"]
        for time in times
    ]
    header = ["N", "tokens", "one pass up to the scoring layer", "block mask and decoding", "causal and decoding", "causal / one pass"]
    return "Milliseconds a prompt, one at a time\n\n" + markdown_table(header, rows)


def training_table(results: Results) -> str:
    rows = [
        [
            result["arm"],
            str(result["seed"]),
            str(result["training"]["steps"]),
            f"{result['training']['tokens'] / 1e6:.1f}",
            f"{result['training']['tokens_per_s']:.0f}",
            ", ".join(f"{name} {loss:.3f}" for name, loss in result["training"]["losses"].items()),
        ]
        for result in sorted(results.results, key=lambda result: (result["arm"], result["seed"]))
    ]
    return markdown_table(["arm", "seed", "steps", "million tokens", "tokens/s", "last losses"], rows)


def series_of(results: Results, arms: dict) -> dict:
    series = {}
    for arm in arms.values():
        for way, name in WAYS.items():
            points = []
            for docs in results.scale.list_lengths:
                values = results.of(arm.name, way, "greedy" if way == "answer" else "p_at_1", docs)
                if values:
                    mean, spread = mean_and_spread([100 * value for value in values])
                    points.append((docs, mean, spread))
            series[f"{arm.name}, {name}"] = points
    return series


def write(out: pathlib.Path, scale, arms: dict, results: list[dict], times: list[dict]) -> None:
    """Of scale.toml, arms.toml, the results of runs, and the times of `perpend bench rank`."""
    found = Results(scale, results)
    told = claims(found)
    parts = [
        quality_tables(found, arms),
        order_table(found, arms),
        markdown_table(["claim", "margin, points"], [[row["claim"], f"{row['margin']:+.1f}"] for row in told]),
        training_table(found),
    ]
    if times:
        parts.insert(2, latency_table(times))
    (out / "table.md").write_text("\n".join(parts))
    write_json(out / "results.json", {"scale": scale.name, "runs": results, "claims": told, "latency": times})
    write_line_plot(out / "ranking.svg", "The answer comes first", "documents", "P@1, %", series_of(found, arms), log_x=True)
