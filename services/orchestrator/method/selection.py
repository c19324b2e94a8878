"""Which questions go where, and which texts repeat others. Pure functions; every order comes from hashes, never from time."""

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from math import ceil
from pathlib import Path

from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Phase
from shared.plan.allocation import allocate

GENERAL_FILE = Path(__file__).parent / "general.jsonl"
ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}  # written in one text with CJK characters


@cache
def general_questions() -> list[Question]:
    """Questions for the forgetting check, fifteen in each of eight categories."""
    return [Question.model_validate_json(line) for line in GENERAL_FILE.read_text().splitlines()]


def seeded_order(questions: Iterable[Question], seed: int, salt: str = "") -> list[Question]:
    """A shuffle that depends on the ids and the seed alone."""
    return sorted(questions, key=lambda q: hashlib.sha256(f"{seed}:{salt}:{q.id}".encode()).digest())


def shards(ordered: Sequence[Question], spec: Distillation) -> dict[Phase, Sequence[Question]]:
    """Disjoint parts of the train split, which is in seeded order, so that phase 2 does not measure phase 1's memory."""
    result: dict[Phase, Sequence[Question]] = {}
    start = 0
    for phase, count in allocate(len(ordered), spec).items():
        result[phase] = ordered[start : start + count]
        start += count
    return result


def stratified(questions: Sequence[Question], count: int) -> list[Question]:
    """The first `count` questions, taken from the categories by turns; within each their order is kept."""
    by_category: dict[str | None, list[Question]] = {}
    for question in questions:
        by_category.setdefault(question.category, []).append(question)
    by_turns = itertools.zip_longest(*by_category.values())
    return [question for turn in by_turns for question in turn if question is not None][:count]


def near_duplicates(texts: Sequence[str], alike: float = 0.9) -> set[int]:
    """Places of texts that share at least `alike` of their three-word runs (Jaccard) with one kept before them.

    Two such texts must share one of the rarest runs of each, so only those are looked up (prefix filtering, Chaudhuri
    et al. 2006): the time grows with the texts, not with their pairs.
    """
    runs_of_texts = [_runs(text) for text in texts]
    frequency = Counter(run for runs in runs_of_texts for run in runs)
    kept_by_run: dict[tuple[str, ...], list[int]] = {}
    repeated: set[int] = set()
    for place, runs in enumerate(runs_of_texts):
        rarest = sorted(runs, key=lambda run: (frequency[run], run))[: len(runs) - ceil(alike * len(runs)) + 1]
        candidates = {other for run in rarest for other in kept_by_run.get(run, ())}
        if any(len(runs & runs_of_texts[other]) >= alike * len(runs | runs_of_texts[other]) for other in candidates):
            repeated.add(place)
            continue
        for run in rarest:
            kept_by_run.setdefault(run, []).append(place)
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
    counts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
    for script, written_with in ONE_SCRIPT.items():
        counts[written_with] += counts.pop(script, 0)
    return +counts
