"""Questions made by a program, each with the one answer that counts as right: sums, records, lists, functions, units.

Every item is a function of the seed and its number, so that training and testing draw from streams that never meet.
"""

import calendar
import dataclasses
import datetime
import json
from collections.abc import Callable

import numpy as np
from functions import FUNCTIONS

FIRST_NAMES = "Ada Ben Carla Dmitri Elena Farid Grace Hugo Ines Jonas Kofi Lena Mario Nadia Omar Petra Quinn Rosa Samir Tara".split()
LAST_NAMES = "Adler Brandt Costa Diaz Evans Fischer Garcia Haas Ivanov Jensen Kaya Lopez Moreau Novak Okafor Park Quist Rossi".split()
CITIES = "Berlin Lagos Lima Osaka Oslo Paris Quito Rabat Riga Rome Seoul Tunis Turin Vienna Warsaw Zagreb".split()
JOBS = "baker carpenter doctor editor farmer gardener nurse pilot plumber teacher tailor welder".split()
COLORS = "amber black blue brown green grey orange pink purple red white yellow".split()
WORDS = """apple anchor arrow basket bell bridge button candle castle circle cloud copper corner cotton desert drum eagle
engine feather fence field flame forest garden glass hammer harbor island jacket kettle ladder lantern lemon letter marble
market meadow mirror mountain needle ocean onion orchard paper pepper pillow planet pocket puzzle rabbit ribbon river rocket
saddle shadow silver spoon stone summer table thunder ticket tiger tower tunnel valley velvet violin wagon walnut window
winter wooden yarn""".split()


@dataclasses.dataclass(frozen=True)
class Item:
    task: str
    question: str
    answer: str


def pick(rng: np.random.Generator, values: list, count: int | None = None) -> object:
    if count is None:
        return values[rng.integers(len(values))]
    return [values[i] for i in rng.choice(len(values), count, replace=False)]


def running_sum(rng: np.random.Generator, size: float) -> tuple[str, str]:
    """All steps are shown; the last line is the result."""
    value = int(rng.integers(10, 100))
    parts, lines = [f"Start with {value}."], []
    for _ in range(max(2, round(size * rng.integers(6, 14)))):
        change = int(rng.integers(2, 100))
        if value >= change and rng.random() < 0.5:
            parts.append(f"Take away {change}.")
            lines.append(f"{value} - {change} = {value - change}")
            value -= change
        else:
            parts.append(f"Add {change}.")
            lines.append(f"{value} + {change} = {value + change}")
            value += change
    return " ".join(parts) + " Show each step and end with #### and the result.", "\n".join([*lines, f"#### {value}"])


def record(rng: np.random.Generator, size: float) -> tuple[str, str]:
    """Sentences to JSON, with the keys in a given order."""
    people = []
    for _ in range(max(1, round(size * rng.integers(2, 5)))):
        person = {
            "name": f"{pick(rng, FIRST_NAMES)} {pick(rng, LAST_NAMES)}",
            "age": int(rng.integers(18, 90)),
            "city": pick(rng, CITIES),
            "job": pick(rng, JOBS),
            "color": pick(rng, COLORS),
            "member": bool(rng.integers(2)),
        }
        kept = sorted(rng.choice(len(person), int(rng.integers(3, len(person) + 1)), replace=False))
        people.append({key: person[key] for key in [list(person)[i] for i in kept]})
    sentences = {
        "name": lambda value: f"The name is {value}.",
        "age": lambda value: f"The age is {value}.",
        "city": lambda value: f"The home is {value}.",
        "job": lambda value: f"The job is {value}.",
        "color": lambda value: f"The favourite color is {value}.",
        "member": lambda value: "This is a member." if value else "This is no member.",
    }
    lines = []
    for number, person in enumerate(people, 1):
        keys = pick(rng, list(person), len(person))
        lines.append(f"Person {number}: " + " ".join(sentences[key](person[key]) for key in keys))
    question = "Write one JSON object a line, with the keys name, age, city, job, color, member as far as they are told.\n"
    return question + "\n".join(lines), "\n".join(json.dumps(person) for person in people)


def word_list(rng: np.random.Generator, size: float) -> tuple[str, str]:
    words = pick(rng, WORDS, max(3, round(size * rng.integers(10, 24))))
    kind = pick(rng, ["sort", "reverse", "dedupe", "sort by length"])
    if kind == "dedupe":
        words = [*words, *pick(rng, words, max(1, len(words) // 3))]
        words = pick(rng, words, len(words))
    asked, result = {
        "sort": ("Sort these words from a to z", sorted(words)),
        "reverse": ("Write these words in reverse order", words[::-1]),
        "dedupe": ("Write each of these words once, in the order in which they first appear", list(dict.fromkeys(words))),
        "sort by length": ("Sort these words by length, words of one length from a to z", sorted(words, key=lambda word: (len(word), word))),
    }[kind]
    return f"{asked}, one a line: {', '.join(words)}", "\n".join(result)


def function(rng: np.random.Generator, size: float) -> tuple[str, str]:
    questions, answers = [], []
    for asked, code in pick(rng, FUNCTIONS, max(1, round(size * rng.integers(2, 5)))):
        a, b = (int(value) for value in np.sort(rng.choice(np.arange(2, 60), 2, replace=False)))
        stem, item = pick(rng, WORDS, 2)
        values = {"f": f"{stem}_{pick(rng, ['value', 'part', 'rule', 'step', 'result'])}", "x": item, "a": a, "b": b}
        questions.append(f"{values['f']}({item}): " + asked.format(**values))
        answers.append(code.format(**values))
    return "Write in Python:\n" + "\n".join(questions), "\n\n".join(answers)


def unit(rng: np.random.Generator) -> tuple[str, str]:
    name, factor, other = pick(rng, [("km", 1000, "m"), ("m", 100, "cm"), ("kg", 1000, "g"), ("l", 1000, "ml"), ("h", 60, "min"), ("min", 60, "s")])
    if rng.integers(2):
        value = int(rng.integers(2, 100))
        return f"{value} {name} in {other}", f"{value} {name} = {value * factor} {other}"
    value = int(rng.integers(2, 100))
    return f"{value * factor} {other} in {name}", f"{value * factor} {other} = {value} {name}"


def date(rng: np.random.Generator) -> tuple[str, str]:
    day = datetime.date(1950, 1, 1) + datetime.timedelta(int(rng.integers(30000)))
    written = f"{day.day} {calendar.month_name[day.month]} {day.year}"
    forms = {"day/month/year": f"{day.day:02}/{day.month:02}/{day.year}", "year-month-day": day.isoformat(), "words": written}
    source, target = pick(rng, list(forms), 2)
    return f"{forms[source]} as {target}", f"{forms[source]} is {forms[target]}"


def reformat(rng: np.random.Generator, size: float) -> tuple[str, str]:
    pairs = [pick(rng, [unit, date])(rng) for _ in range(max(1, round(size * rng.integers(4, 10))))]
    return "Write each of these, one a line:\n" + "\n".join(asked for asked, _ in pairs), "\n".join(answer for _, answer in pairs)


TASKS: dict[str, Callable[[np.random.Generator, float], tuple[str, str]]] = {
    "sum": running_sum,
    "record": record,
    "list": word_list,
    "function": function,
    "reformat": reformat,
}


def make_items(count: int, seed: int, size: float = 1.0, tasks: tuple[str, ...] = tuple(TASKS)) -> list[Item]:
    """The tasks in turn. `size` makes answers longer or shorter than the 64 to 256 tokens that they mostly have."""
    items = []
    for number in range(count):
        task = tasks[number % len(tasks)]
        rng = np.random.default_rng([seed, number])
        items.append(Item(task, *TASKS[task](rng, size)))
    return items
