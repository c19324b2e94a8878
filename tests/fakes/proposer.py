"""How a strong model answers when topics or questions are wanted: lists of every form, with prose around them, repetitions of itself, too
few of them, and now and then a refusal. Deterministic by messages and seed.

In the domain: REPEATING has the same three questions for everything.
"""

import json
import random
import re
from typing import Any

from tests.fakes.openai_server import digest

TOPICS = re.compile(r"Name (\d+) different topics")
QUESTIONS = re.compile(r"Write (\d+) different questions of this topic")
TOPIC = re.compile(r"Topic: (.+)\nLevel or kind: (.+)")
FIELDS = [
    *("hive inspection", "swarm control", "queen rearing", "honey harvest", "wintering", "varroa treatment", "foraging plants"),
    *("wax processing", "pollination contracts", "hive construction", "bee anatomy", "local regulations", "feeding", "record keeping"),
]  # fmt: skip
OPENINGS = [
    *("How does one", "Why should a keeper", "When is it right to", "What happens if you", "Which tools help to"),
    *("How often must beginners", "What does it cost to", "Who decides whether to", "Where do professionals", "Is it wise to"),
]  # fmt: skip
VERBS = [
    *("measure", "prevent", "schedule", "compare", "repair", "explain", "document", "improve", "delay", "combine", "inspect"),
    *("replace", "store", "transport", "clean", "weigh", "divide", "protect", "estimate", "monitor"),
]  # fmt: skip
THINGS = [
    *("brood frames", "smoker fuel", "sugar syrup", "entrance reducers", "drone comb", "mite counts", "pollen traps", "nectar flow"),
    *("queen cells", "bottom boards", "supers", "veils", "moisture levels", "robbing", "absconding", "propolis", "royal jelly"),
]  # fmt: skip
SEASONS = [
    "in early spring",
    "during a drought",
    "before the first frost",
    "after heavy rain",
    "near a city",
    "on a balcony",
    "with two colonies",
]


def reply_to(messages: list[dict[str, Any]], body: dict[str, Any]) -> str | None:
    """None for other requests than these."""
    rules, text = str(messages[0].get("content")), str(messages[-1].get("content"))
    topics, questions = TOPICS.search(text), QUESTIONS.search(text)
    dice = random.Random(digest(messages) + int(body.get("seed") or 0))
    if topics:
        wanted = int(topics.group(1))
        names = dice.sample(FIELDS, min(len(FIELDS), wanted + 1))
        return _written([name.capitalize() for name in [*names[:wanted], names[0]]], dice)
    if not questions:
        return None
    named = TOPIC.search(text)
    assert named is not None
    wanted = int(questions.group(1))
    if "REPEATING" in rules:
        return _written(["What is a bee made of?", "Where do bees sleep?", "How far does a bee fly?"] * 2, dice)
    if dice.random() < 0.05:
        return "I'm sorry, but I can't help with writing examination questions."
    made = [_question(named.group(1), named.group(2), dice) for _ in range(max(1, wanted - dice.randrange(3)))]
    return _written([*made, made[0].upper(), "What does the above passage say about it?"], dice)


def _question(topic: str, level: str, dice: random.Random) -> str:
    words = dice.choice(OPENINGS), dice.choice(VERBS), dice.choice(THINGS), dice.choice(SEASONS)
    return f"{words[0]} {words[1]} {words[2]} {words[3]} ({topic.lower()}, {level})?"


def _written(items: list[str], dice: random.Random) -> str:
    form = dice.randrange(4)
    if form == 0:
        return json.dumps(items)
    if form == 1:
        return f"Of course! Here they are:\n```json\n{json.dumps(items, indent=1)}\n```\nLet me know if you want more."
    if form == 2:
        return json.dumps({"items": [{"text": item} for item in items]})
    return "Sure:\n\n" + "\n".join(f"{number}. **{item}**" for number, item in enumerate(items, start=1))
