"""Open questions, a topic in a style, for answers that the base model gives itself."""

import json
import pathlib

import numpy as np

TOPICS = """rain bread bicycles honey maps coffee chess bridges whales candles paper mountains trains tea gardens pianos clocks
soap windows cheese sailing dreams stars libraries shadows glass rivers cats apples markets letters snow kites bees wool
lighthouses salt forests museums mirrors sleep running cooking painting photography languages numbers calendars money music
dance poetry theatre cinema radio newspapers schools teachers friendship neighbours families birthdays holidays breakfast
vegetables spices soup fishing camping hiking swimming football tennis gymnastics archery volcanoes earthquakes deserts islands
oceans tides clouds wind thunder rainbows seasons the moon the sun planets comets gravity light sound magnets batteries
electricity engines wheels levers robots computers keyboards the internet passwords electric cars aeroplanes balloons submarines
satellites telescopes microscopes vaccines vitamins bones muscles the heart the brain teeth eyes memory habits patience courage
curiosity kindness honesty teamwork planning budgeting recycling composting water energy steel wood leather cotton silk""".split("\n")
HELD_OUT = 200
# Two words are one topic where the first is an article or an adjective.
JOINED = {"the", "electric"}
STYLES = [
    "Explain {topic} to a child in three sentences.",
    "Write a short poem about {topic}.",
    "List five facts about {topic}.",
    "Give three tips for someone who is new to {topic}.",
    "Write a short story in which {topic} matters.",
    "What are two advantages and two disadvantages of {topic}?",
    "Write a friendly e-mail to a colleague about {topic}.",
    "Why do people care about {topic}?",
    "Describe {topic} without using the word itself.",
    "Write a dialogue of six lines about {topic}.",
    "What is a common mistake about {topic}?",
    "Write a headline and one paragraph of news about {topic}.",
    "Name three questions that one could ask about {topic}, with short answers.",
    "Compare {topic} with {other} in a few sentences.",
    "Write a riddle about {topic} and give its answer.",
    "How would you teach {topic} in one lesson? Answer in steps.",
    "Summarise what everyone should know about {topic}.",
    "Write a product description for something that has to do with {topic}.",
    "Give an example of {topic} in everyday life.",
    "What might change about {topic} in the next ten years?",
    "Write a thank-you note that mentions {topic}.",
    "Make a plan for a weekend around {topic}.",
    "Write one sentence about {topic} for each of the four seasons.",
    "Tell a joke about {topic} and say why it is funny.",
    "What connects {topic} and {other}?",
]


def topics() -> list[str]:
    found: list[str] = []
    for word in " ".join(TOPICS).split():
        if found and found[-1] in JOINED:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def make_prompts(seed: int) -> list[str]:
    """All there are, in an order of their own."""
    known = topics()
    pairs = [(style, topic) for style in STYLES for topic in known]
    rng = np.random.default_rng([seed, 1])
    made: dict[str, None] = {}
    for number in rng.permutation(len(pairs)):
        style, topic = pairs[number]
        other = known[(known.index(topic) + 1 + int(rng.integers(len(known) - 1))) % len(known)]
        made[style.format(topic=topic, other=other)] = None
    return list(made)


def open_prompts(held_out: bool) -> list[str]:
    """Those that answers are distilled of, or those that no arm is trained on."""
    made = make_prompts(1)
    return made[:HELD_OUT] if held_out else made[HELD_OUT:]


def read_questions(path: pathlib.Path) -> list[str]:
    """Of lines of JSON with the key "question", as GSM8K has them."""
    questions = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        question = json.loads(line).get("question") if line.strip() else ""
        if not isinstance(question, str):
            raise ValueError(f'{path}:{number}: expected an object with the text "question"')
        if question:
            questions.append(question)
    return questions
