"""The search behind the nearest-examples baseline, against the formula worked out by hand."""

from math import log

import pytest

from services.orchestrator.method.baselines import K1, B, Nearest
from shared.contracts.data import Question
from shared.contracts.rows import shot


def question(n: int, text: str, reference: str | None = "r") -> Question:
    return Question(id=str(n), question=text, reference=reference and f"{reference}{n}")


def test_scores_are_those_of_the_formula():
    index = Nearest([question(0, "list files"), question(1, "list list big files now"), question(2, "say hello")])
    mean = (2 + 5 + 2) / 3

    def part(often: int, length: int, documents: int) -> float:
        rarity = log(1 + (3 - documents + 0.5) / (documents + 0.5))
        return rarity * often * (K1 + 1) / (often + K1 * (1 - B + B * length / mean))

    first, second, third = index.scores("list big")
    assert first == pytest.approx(part(1, 2, 2))
    assert second == pytest.approx(part(2, 5, 2) + part(1, 5, 1))
    assert third == 0


def test_the_closest_comes_last_and_what_has_no_reference_is_no_example():
    index = Nearest(
        [question(0, "count lines of a file"), question(1, "count words"), question(2, "count lines", reference=None)]
    )
    assert [shot(q) for q in index.nearest("count lines", 2)] == [
        ("count words", "r1"),
        ("count lines of a file", "r0"),
    ]
    assert [shot(q) for q in index.nearest("nothing alike", 1)] == [("count lines of a file", "r0")]
    assert Nearest([]).nearest("x", 3) == []
