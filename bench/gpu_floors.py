"""What the GPU kernels are held to: figures of one run of compare_gpu.py beside what they must reach."""

import collections.abc
import dataclasses
import statistics

import gpu_growth


@dataclasses.dataclass(frozen=True)
class Floor:
    what: str
    found: float
    limit: float
    is_most: bool = False  # the limit is the most, not the least

    @property
    def holds(self) -> bool:
        return self.found <= self.limit if self.is_most else self.found >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.is_most else ">="
        return f"{self.what:<84}{self.found:>9.3f}  {sign} {self.limit:<7.2f} {'ok' if self.holds else 'MISSED'}"


def ratio(result: dict, peer: str, of="perpend") -> float:
    return result[peer]["ms"] / result[of]["ms"]


def of_forward(results: list[dict]) -> collections.abc.Iterator[Floor]:
    least = {"dense_1x16384_d128": 1.05, "causal_1x16384_d128": 1.08, "dense_1x16384_d64": 1.0,
             "causal_1x16384_d64": 1.0, "dense_4x4096_d64": 1.0, "causal_4x4096_d64": 1.0}
    for result in results:
        if result["workload"] in least and "cudnn" in result:
            yield Floor(f"forward {result['workload']}, x cuDNN", ratio(result, "cudnn"), least[result["workload"]])


def of_backward(results: list[dict]) -> collections.abc.Iterator[Floor]:
    rates = {"dense_1x16384_d128": (470, 560), "causal_1x16384_d128": (430, 510)}
    for result in results:
        name = result["workload"]
        if name not in rates:
            continue
        ours = [who for who in ("perpend", "fused") if who in result]
        for who, least in zip(ours, rates[name]):
            form = "fused" if who == "fused" else "in order"
            yield Floor(f"backward {name} {form}, TFLOP/s", result[who]["tflops"], least)
        if "cudnn" in result:
            better = max(ratio(result, "cudnn", who) for who in ours)
            yield Floor(f"backward {name}, better of both x cuDNN", better, 1.0)


def of_structured(results: list[dict], what: str, mean: float, least: float) -> collections.abc.Iterator[Floor]:
    ratios = {r["workload"]: ratio(r, "flex") for r in results if r["structured"] and "flex" in r}
    if not ratios:
        return
    yield Floor(f"{what}, {len(ratios)} structured workloads x FlexAttention, geometric mean",
                statistics.geometric_mean(ratios.values()), mean)
    worst = min(ratios, key=ratios.get)
    yield Floor(f"{what}, least of them ({worst})", ratios[worst], least)


def of_structured_forward(results: list[dict]) -> collections.abc.Iterator[Floor]:
    yield from of_structured(results, "forward", 2.2, 1.5)
    for result in results:
        if result["workload"].startswith("documents") and "flex" in result:
            yield Floor(f"forward {result['workload']}, x FlexAttention", ratio(result, "flex"), 3.5)


def of_structured_backward(results: list[dict]) -> collections.abc.Iterator[Floor]:
    yield from of_structured(results, "backward", 1.7, 1.2)


def of_decode(results: list[dict]) -> collections.abc.Iterator[Floor]:
    least = {"decode_32x8k": 0.80, "decode_1x128k": 0.75}
    for result in results:
        if result["workload"] in least:
            yield Floor(f"{result['workload']}, share of a copy's bandwidth", result["share_of_copy"],
                        least[result["workload"]])


def of_growth(results: list[dict]) -> collections.abc.Iterator[Floor]:
    if not any(r["S"] == gpu_growth.BASE for r in results):
        return
    longer = [r for r in results if r["S"] >= gpu_growth.BASE]
    for key, what, most in (("ns_per_pair", "time a live pair", 0.08), ("bytes_per_token", "memory a token", 0.02)):
        shares = [r[f"{key}_share"] for r in longer]
        yield Floor(f"growth, {what} from 32k on ({min(shares):.3f} to {max(shares):.3f}), off by at most",
                    max(abs(share - 1) for share in shares), most, is_most=True)


OF_PART = {"forward": of_forward, "backward": of_backward, "workloads": of_structured_forward,
           "structured": of_structured_forward, "structured_backward": of_structured_backward, "decode": of_decode,
           "growth": of_growth}


def floors(results: dict[str, list[dict]]) -> list[Floor]:
    """Of the parts of a run that were measured."""
    return [floor for part, of_part in results.items() for floor in OF_PART[part](of_part)]
