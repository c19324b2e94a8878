"""Preference pairs of samples of one question (phase 3, without a strong model): which answer against which, and what a pair weighs.

verified: a passing against a failing answer (Iterative RPO, Pang et al. 2024, arXiv 2404.19733); where none passes, the record's
reference against a failing one, if the job says so. agreement: the answer with most votes against one with the fewest, weighted by
the margin of votes (ScPO, Prasad et al. 2024, arXiv 2411.04109, eq. 2 and 4).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from math import gcd

from services.orchestrator.method.samples import Drawn, is_whole, text_of
from services.orchestrator.method.students import Students
from shared.contracts.data import Question
from shared.contracts.distillation import EvolveSettings
from shared.contracts.phase_records import ReferencePairs
from shared.contracts.rows import PreferencePair
from shared.contracts.steps import Strategy

Sides = tuple[Sequence[str], Sequence[str], float]  # texts that are better, texts that are worse, weight
LEAST_HELD_OUT = 4  # questions; of fewer a rate says nothing, so none is held out


def pairs_of_samples(
    students: Students, settings: EvolveSettings, drawn: Sequence[Drawn]
) -> tuple[list[PreferencePair], dict[str, int]]:
    """At most pairs_per_question of each question, and how many questions have none, by reason. Some questions' pairs are marked
    as held out."""
    dropped: Counter[str] = Counter()
    pairs: list[PreferencePair] = []
    for one in drawn:
        if settings.strategy is Strategy.VERIFIED:
            sides = verified_sides(one, settings.unsolved == "reference")
        else:
            sides = agreed_sides(one, settings.agreement)
        if isinstance(sides, str):
            dropped[sides] += 1
            continue
        better, worse, weight = sides
        from_reference = settings.strategy is Strategy.VERIFIED and not any(one.passed)
        pairs += [
            students.pair(one.question, chosen, rejected, weight=weight, from_reference=from_reference)
            for chosen, rejected in crossed(better, worse, settings.pairs_per_question)
        ]
    aside = held_out([pair.id for pair in pairs], settings.held_out, students.seed)
    return [pair.model_copy(update={"held_out": True}) if pair.id in aside else pair for pair in pairs], dict(dropped)


def pairs_of_file(students: Students, questions: Sequence[Question]) -> list[PreferencePair]:
    """What the records themselves call better and worse."""
    return [students.pair(q, q.reference, q.rejected) for q in questions if q.reference and q.rejected]


def from_references(pairs: Sequence[PreferencePair]) -> ReferencePairs:
    """Those whose better side is the record's reference."""
    ids = [pair.id for pair in pairs if pair.from_reference]
    return ReferencePairs(questions=len(set(ids)), pairs=len(ids))


def verified_sides(one: Drawn, or_reference: bool = False) -> Sides | str:
    """What passes against what does not, or why there is no pair. or_reference: the record's reference stands for what passes where
    nothing does."""
    better, worse = one.texts(passed=True), one.texts(passed=False)
    if one.by != "grader":
        return "no_reference" if any(map(is_whole, one.completions)) else "cut_off"
    if better and worse:
        return better, worse, 1.0
    if or_reference and worse:
        return reference_sides(one)
    if any(completion.cut_off for completion in one.completions):
        return "cut_off"
    return "all_pass" if better else "none_passes"


def reference_sides(one: Drawn) -> Sides | str:
    """The record's reference against what fails. It has no rationale, so it stands against answers without one: otherwise training
    would learn to leave the rationale out."""
    pairs = zip(one.completions, one.passed, strict=True)
    worse = list(dict.fromkeys(text_of(c) for c, ok in pairs if not ok and is_whole(c) and c.rationale is None))
    if one.question.reference is None or not one.reference_passes:
        return "reference_fails"
    return ([one.question.reference], worse, 1.0) if worse else "with_rationale"


def agreed_sides(one: Drawn, least: float) -> Sides | str:
    """The answer that more than the share `least` of all samples give, against those with the fewest votes, or why there is no pair.
    An answer that says nothing to the grader (a query that does not run) has no votes."""
    texts: dict[int | None, list[str]] = {}
    for completion, group in zip(one.completions, one.groups, strict=True):
        if is_whole(completion):
            texts.setdefault(group, []).append(text_of(completion))
    if 0 not in texts or one.share(0) <= least:
        return "cut_off" if any(completion.cut_off for completion in one.completions) else "no_agreement"
    groups = [group for group in texts if group is not None and group != 0]
    if None in texts:
        worse, votes = texts[None], 0.0
    elif groups:
        votes = min(one.share(group) for group in groups)
        worse = [text for group in groups if one.share(group) == votes for text in texts[group]]
    else:
        return "all_agree"
    return list(dict.fromkeys(texts[0])), list(dict.fromkeys(worse)), round(one.share(0) - votes, 4)


def crossed(better: Sequence[str], worse: Sequence[str], most: int) -> list[tuple[str, str]]:
    """`most` different pairs at most, in which each text comes about as often as the others of its side."""
    a, b = len(better), len(worse)
    turns = a * b // gcd(a, b)  # pairs until both sides begin anew together; then they are shifted by one
    places = ((n % a, (n + n // turns) % b) for n in range(a * b))
    return [(better[i], worse[j]) for i, j in islice(places, most)]


def held_out(ids: Sequence[str], share: float, seed: int) -> set[str]:
    """So large a share of the questions, by hash."""
    ordered = sorted(set(ids), key=lambda one: hashlib.sha256(f"{seed}:held-out:{one}".encode()).digest())
    count = round(share * len(ordered))
    return set(ordered[:count]) if count >= LEAST_HELD_OUT else set()


def learnable_pairs(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], dict[str, int]]:
    """The pairs whose two sides are whole, not empty and differ, and how many were dropped for which reason."""
    kept: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        if pair.cut_off:
            dropped["cut_off"] += 1
        elif not pair.chosen.strip() or not pair.rejected.strip():
            dropped["empty"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            dropped["identical"] += 1
        else:
            kept.append(pair)
    return kept, dict(dropped)
