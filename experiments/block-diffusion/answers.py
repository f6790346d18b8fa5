"""Lets models answer questions with `perpend generate --batch`, and counts how many answers are right and what they cost."""

import dataclasses
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from protocol import messages_of, with_shots
from runs import Program, write_json
from tasks import Item


LAYERS = 30  # of the base model


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to answer: a model and how it is run."""

    name: str
    model: tuple[str, ...]  # flags that choose it
    flags: tuple[object, ...] = ()
    batch_size: int = 32
    num_items: int = 1000
    max_tokens: int = 384


@dataclasses.dataclass
class Asker:
    """Answers lie in `out`, one file a setting; what is there is not asked again."""

    program: Program
    out: pathlib.Path
    device: str

    def ask(self, setting: Setting, items: list[Item], shots: int = 0) -> dict:
        """What answering the first `setting.num_items` of `items` gave and cost."""
        report = self.out / f"{setting.name}.json"
        if not report.exists():
            self.out.mkdir(parents=True, exist_ok=True)
            asked = with_shots(items, shots)[: setting.num_items]
            results, summary = self.generate(setting, [messages_of(item, solved) for item, solved in asked])
            write_json(report, {"setting": setting.name} | measured([item for item, _ in asked], results, summary))
        return json.loads(report.read_text())

    def generate(self, setting: Setting, conversations: list[list[dict]]) -> tuple[dict[str, dict], dict]:
        """(answers by the place of their conversation, the summary of all)"""
        files = {name: self.out / f"{setting.name}.{name}" for name in ("requests.jsonl", "answers.jsonl", "summary.json", "log")}
        lines = (json.dumps({"id": str(place), "messages": messages}) for place, messages in enumerate(conversations))
        files["requests.jsonl"].write_text("".join(line + "\n" for line in lines))
        flags = [*setting.model, *setting.flags, "--device", self.device, "--temperature", 0, "--max-tokens", setting.max_tokens]
        flags += ["--batch-size", setting.batch_size, "--summary", files["summary.json"]]
        self.program.run_to_end(files["answers.jsonl"], "generate", "--batch", files["requests.jsonl"], *flags, log=files["log"])
        answers = map(json.loads, files["answers.jsonl"].read_text().splitlines())
        summary = json.loads(files["summary.json"].read_text())
        files["requests.jsonl"].unlink()
        return {answer["id"]: answer for answer in answers}, summary


def measured(items: list[Item], results: dict[str, dict], summary: dict) -> dict:
    """`results` by the place of the item. Tokens count through the first end of text; answers that failed are wrong.

    Prompts are part of the seconds, loading is not; the median speed of single answers is without their prompts.
    """
    right: dict[str, list[bool]] = {}
    for place, item in enumerate(items):
        text = results.get(str(place), {}).get("text")
        right.setdefault(item.task, []).append(text is not None and text.strip() == item.answer)
    tokens = sum(result.get("completion_tokens", 0) for result in results.values())
    forwards = sum(result.get("forwards", 0) for result in results.values())
    speeds = [result["decode_tokens_per_s"] for result in results.values() if "decode_tokens_per_s" in result]
    by_task = {task: 100 * sum(found) / len(found) for task, found in right.items()}
    return {
        "items": len(items),
        "exact_match": 100 * sum(sum(found) for found in right.values()) / len(items),
        "by_task": by_task,
        "completion_tokens": tokens,
        "forwards": forwards,
        "tokens_per_forward": tokens / forwards if forwards else 0.0,
        "rows_computed": sum(result.get("rows_computed", 0) for result in results.values()),
        "refreshed_layers": sum(LAYERS - layer for result in results.values() for layer in result.get("refreshed_from", [])),
        "seconds": summary["seconds"],
        "answer_tokens_per_s": statistics.median(speeds) if speeds else 0.0,
        "tokens_per_s": tokens / summary["seconds"] if summary["seconds"] else 0.0,
    }


def report(out: pathlib.Path, name: str, rows: list[dict], table, write_plot) -> None:
    """Rows as JSON, `table(rows)` as text and `write_plot(path, rows)`. After each setting, so that whatever ends the run
    leaves what there is."""
    write_json(out / f"{name}.json", rows)
    (out / f"{name}.md").write_text(table(rows))
    write_plot(out / f"{name}.svg", rows)
    print(table(rows[-1:]).splitlines()[2], flush=True)
