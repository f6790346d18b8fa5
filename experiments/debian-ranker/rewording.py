"""Queries as people type them, made of the synopses that maintainers write."""

import random
import re

STOP_WORDS = frozenset("a an and are as at be by for from in into is it its of on or that the this to using with".split())
# What else people call it.
OTHER_WORDS = {
    "analyzer": ["analyser", "tool to analyze"], "application": ["app", "program"], "archive": ["archiver"],
    "audio": ["sound"], "binding": ["wrapper"], "bindings": ["wrapper", "interface"], "browser": ["viewer"],
    "client": ["program"], "command-line": ["terminal", "console", "cli"], "compiler": ["compile"],
    "console": ["terminal", "text mode"], "convert": ["turn", "change"], "converter": ["convert"],
    "create": ["make", "generate"], "creating": ["making"], "daemon": ["service", "server"],
    "debugger": ["debug"], "desktop": ["gui"], "development": ["dev", "header"], "display": ["show", "view"],
    "displays": ["shows"], "documentation": ["docs", "manual"], "editor": ["edit"], "fast": ["quick"],
    "framework": ["toolkit", "library"], "game": ["play"], "generate": ["create", "make"], "generator": ["generate"],
    "graphical": ["gui"], "image": ["picture", "photo"], "images": ["pictures", "photos"], "interface": ["frontend"],
    "library": ["lib", "package"], "lightweight": ["small", "light"], "manage": ["control"], "manager": ["manage"],
    "manipulate": ["edit", "change"], "manipulating": ["editing"], "module": ["library", "package"],
    "monitor": ["watch", "check"], "monitoring": ["watching"], "network": ["net"], "parser": ["parse", "reader"],
    "parsing": ["reading"], "plugin": ["extension", "addon"], "program": ["tool", "software"], "read": ["open"],
    "reader": ["read", "viewer"], "remote": ["distant"], "server": ["service"], "simple": ["easy"], "small": ["tiny"],
    "software": ["program"], "terminal": ["console", "command line"], "text": ["plain text"], "tool": ["program", "utility"],
    "tools": ["programs", "utilities"], "toolkit": ["library"], "utilities": ["tools"], "utility": ["tool", "program"],
    "viewer": ["view", "show"], "wrapper": ["interface"], "video": ["movie"], "write": ["create"],
}
OPENINGS = ["how to", "looking for", "i need a", "something like", "program for", "tool for", "is there a", "best"]


def without_name(synopsis: str, name: str) -> str:
    """Who looks for a package often does not know what it is called."""
    parts = {part for part in re.split(r"[^a-z0-9]+", name.lower()) if len(part) > 2 and part not in OTHER_WORDS}
    words = [word for word in synopsis.split() if re.sub(r"[^a-z0-9]", "", word.lower()) not in parts]
    return " ".join(words)


def reworded(synopsis: str, name: str, random: random.Random) -> str:
    """One query of a synopsis; each rule applies by chance. Never empty."""
    text = synopsis
    if random.random() < 0.5:
        text = re.sub(r"\s*[(\[][^)\]]*[)\]]", "", text)
    if random.random() < 0.3:
        text = re.sub(r"\s+-+\s+.*$", "", text)
    if random.random() < 0.5:
        text = without_name(text, name)
    if random.random() < 0.6:
        text = text.lower()
    words = [word.strip(",;:.\"'`") for word in text.split()]
    words = [word for word in words if word and word != "-"]
    if random.random() < 0.4:
        words = [word for word in words if word.lower() not in STOP_WORDS]
    words = [
        random.choice(OTHER_WORDS[word.lower()]) if word.lower() in OTHER_WORDS and random.random() < 0.4 else word
        for word in words
    ]
    loss = random.choice([0.0, 0.0, 0.15, 0.3])
    kept = [word for word in words if random.random() >= loss]
    words = kept if len(kept) >= 2 else words
    for link in ("for", "to", "of"):
        if link in words[1:-1] and random.random() < 0.2:
            middle = words.index(link, 1)
            words = words[middle + 1 :] + words[:middle]
            break
    if random.random() < 0.15:
        words = [*random.choice(OPENINGS).split(), *words]
    return " ".join(words) if len(words) > 1 else synopsis
