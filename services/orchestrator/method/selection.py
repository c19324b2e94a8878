"""Which questions go where, and which answers are kept. Pure functions; every order comes from hashes, never from time."""

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil
from typing import TypeVar

from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Phase
from shared.plan.allocation import allocate

T = TypeVar("T")
ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}  # written in one text with CJK characters


def seeded_order(questions: Iterable[Question], seed: int, salt: str = "") -> list[Question]:
    """A shuffle that depends on the ids and the seed alone."""
    return sorted(questions, key=lambda q: hashlib.sha256(f"{seed}:{salt}:{q.id}".encode()).digest())


def shards(train: Sequence[Question], spec: Distillation, seed: int) -> dict[Phase, list[Question]]:
    """Disjoint parts of the train split, so that phase 2 does not measure phase 1's memory."""
    ordered = seeded_order(train, seed)
    result: dict[Phase, list[Question]] = {}
    start = 0
    for phase, count in allocate(len(ordered), spec).items():
        result[phase] = ordered[start : start + count]
        start += count
    return result


def stratified(questions: Sequence[Question], count: int) -> list[Question]:
    """The first `count` questions, taken from the categories in turn; within each their order is kept."""
    by_category: dict[str | None, list[Question]] = {}
    for question in questions:
        by_category.setdefault(question.category, []).append(question)
    in_turn = itertools.zip_longest(*by_category.values())
    return [question for turn in in_turn for question in turn if question is not None][:count]


def near_duplicates(texts: Sequence[str], alike: float = 0.9) -> set[int]:
    """Places of texts that share at least `alike` of their three-word runs (Jaccard) with one kept before them.

    Two such texts must share one of the rarest runs of each, so only those are looked up (prefix filtering, Chaudhuri
    et al. 2006): the time grows with the texts, not with their pairs.
    """
    runs = [_runs(text) for text in texts]
    often = Counter(run for found in runs for run in found)
    by_run: dict[tuple[str, ...], list[int]] = {}
    repeated: set[int] = set()
    for place, found in enumerate(runs):
        rarest = sorted(found, key=lambda run: (often[run], run))[: len(found) - ceil(alike * len(found)) + 1]
        candidates = {other for run in rarest for other in by_run.get(run, ())}
        if any(len(found & runs[other]) >= alike * len(found | runs[other]) for other in candidates):
            repeated.add(place)
            continue
        for run in rarest:
            by_run.setdefault(run, []).append(place)
    return repeated


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of three words or signs; a shorter text is one run."""
    parts = re.findall(r"\w+|[^\w\s]", text.casefold())
    return frozenset(tuple(parts[i : i + 3]) for i in range(max(1, len(parts) - 2)))


def scripts(texts: Iterable[str | None]) -> frozenset[str]:
    """The scripts that the letters of some texts come from, by Unicode's names: LATIN, CYRILLIC, CJK, ..."""
    return frozenset(script for text in texts for script in letters_by_script(text or ""))


def letters_by_script(text: str) -> Counter[str]:
    found = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    for script, written_with in ONE_SCRIPT.items():
        found[written_with] += found.pop(script, 0)
    return +found
