"""Which questions go where, and which answers are kept. Pure functions; every order comes from hashes, never from time."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TypeVar

from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Phase
from shared.contracts.rows import Example, PreferencePair, TeacherResponse
from shared.plan.allocation import allocate

T = TypeVar("T")


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


def unfit(
    questions: Sequence[Question], lessons: Sequence[TeacherResponse], reasons: Mapping[str, str], shown: int = 2
) -> str:
    """What a teacher said that cannot be used, for an error message: question, answer, reason."""
    failed = [(q.text, a.answer, reasons[q.id]) for q, a in zip(questions, lessons, strict=True) if q.id in reasons]
    return "; ".join(f"{text[:80]!r} -> {answer[:120]!r} ({reason})" for text, answer, reason in failed[:shown])


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def shots(train: Sequence[Question], count: int, seed: int, draw: int = 0) -> list[tuple[str, str]]:
    """Worked examples for the few-shot baseline: random ones that have a reference, others in each draw."""
    usable = [q for q in train if q.reference]
    drawn = seeded_order(usable, seed, f"shots-{draw}" if draw else "shots")
    return [(q.text, q.reference or "") for q in drawn[:count]]


def keep_lessons(
    questions: Sequence[Question], lessons: Sequence[TeacherResponse]
) -> tuple[list[Example], dict[str, int]]:
    """The teacher's usable answers as training rows, and how many were dropped for which reason."""
    text = {q.id: q.text for q in questions}
    dropped: Counter[str] = Counter()
    usable = []
    for lesson in lessons:
        if lesson.outcome == "ok":
            usable.append(Example(id=lesson.id, question=text[lesson.id], completion=lesson.answer))
        else:
            dropped[lesson.outcome] += 1
    repeated = near_duplicates([f"{row.question} {row.completion}" for row in usable])
    if repeated:
        dropped["near_duplicate"] = len(repeated)
    return [row for i, row in enumerate(usable) if i not in repeated], dict(dropped)


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


def pairs_of(questions: Sequence[Question]) -> list[PreferencePair]:
    """What the records themselves say is better and worse."""
    return [
        PreferencePair(id=q.id, question=q.text, chosen=q.reference, rejected=q.rejected)
        for q in questions
        if q.reference and q.rejected
    ]


def distinct_pairs(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], dict[str, int]]:
    """Pairs that can teach something: both sides there and different."""
    kept, dropped = [], Counter()
    for pair in pairs:
        if not pair.chosen.strip() or not pair.rejected.strip():
            dropped["empty"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            dropped["identical"] += 1
        else:
            kept.append(pair)
    return kept, dict(dropped)
