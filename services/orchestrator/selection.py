"""Which questions go where, and which answers are kept. Pure functions; every order comes from hashes, never from time."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from shared.contracts.data import Question
from shared.contracts.jobs import Distillation, Phase
from shared.contracts.rows import Example, Lesson, Pair

SHARES = {Phase.DISTILL: 0.5, Phase.ITERATE: 0.3, Phase.EVOLVE: 0.2}  # of what the job leaves open

T = TypeVar("T")


def seeded_order(questions: Iterable[Question], seed: int, salt: str = "") -> list[Question]:
    """A shuffle that depends on the ids and the seed alone."""
    return sorted(questions, key=lambda q: hashlib.sha256(f"{seed}:{salt}:{q.id}".encode()).digest())


def allocate(available: int, spec: Distillation) -> dict[Phase, int]:
    """Questions per phase: what the job names, and shares of the rest for the phases that name nothing."""
    wanted = {phase: getattr(spec, phase.value).questions for phase in spec.phases}
    rest = max(0, available - sum(n for n in wanted.values() if n))
    open_shares = sum(SHARES[phase] for phase, n in wanted.items() if n is None)
    return {phase: n if n is not None else int(rest * SHARES[phase] / open_shares) for phase, n in wanted.items()}


def shards(train: Sequence[Question], spec: Distillation, seed: int) -> dict[Phase, list[Question]]:
    """Disjoint parts of the train split, so that phase 2 does not measure phase 1's memory."""
    ordered = seeded_order(train, seed)
    result: dict[Phase, list[Question]] = {}
    start = 0
    for phase, count in allocate(len(ordered), spec).items():
        result[phase] = ordered[start : start + count]
        start += count
    return result


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def rounds_of(questions: Sequence[T], rounds: int) -> list[Sequence[T]]:
    """A fresh shard for each round, sizes equal up to one."""
    edges = [len(questions) * i // rounds for i in range(rounds + 1)]
    return [questions[a:b] for a, b in itertools.pairwise(edges)]


def shots(train: Sequence[Question], count: int, seed: int) -> list[tuple[str, str]]:
    """Worked examples for the few-shot baseline: random ones that have a reference."""
    usable = [q for q in train if q.reference]
    return [(q.text, q.reference or "") for q in seeded_order(usable, seed, "shots")[:count]]


def keep_lessons(questions: Sequence[Question], lessons: Sequence[Lesson]) -> tuple[list[Example], dict[str, int]]:
    """The teacher's usable answers as training rows, and how many were dropped for which reason."""
    text = {q.id: q.text for q in questions}
    kept = [Example(id=a.id, question=text[a.id], completion=a.answer) for a in lessons if a.outcome == "ok"]
    return kept, dict(Counter(a.outcome for a in lessons if a.outcome != "ok"))


def distinct_pairs(pairs: Sequence[Pair]) -> tuple[list[Pair], dict[str, int]]:
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
