"""What a grader sees: an answer and the record it answers, in OpenAI's words a sample and an item; and what comes of it."""

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shared.contracts.grader_kinds import UNGRADABLE
from shared.contracts.json_types import Json
from shared.contracts.rows import JudgeInput
from shared.contracts.templates import filled, item_of, sample_of


class Attempt(NamedTuple):
    """item: the record's fields, `question` and `reference` among them where it has them."""

    answer: str
    item: Json

    @classmethod
    def of(cls, answer: str, reference: str, question: str = "", item: Json | None = None) -> "Attempt":
        """item: further fields of the record."""
        return cls(answer, item_of(question, reference, item))

    @property
    def reference(self) -> str:
        """Empty where the record has none; JSON where it is no text."""
        given = self.item.get("reference")
        if given is None:
            return ""
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)

    @property
    def sample(self) -> Json:
        return sample_of(self.answer)

    def filled(self, template: str) -> str:
        """Raises MissingField for a path that leads nowhere in this item or sample."""
        return filled(template, self.item, self.sample)


class Stopped(Exception):
    """An answer that needs more than the grader's own limits allow. why: slow, or crash for memory; as in Graded."""

    def __init__(self, words: str, why: str = "slow"):
        super().__init__(words)
        self.why = why


class ModelCall(NamedTuple):
    """A call to a strong model that a grader made. model: as the grader names it. call_id: on the ledger."""

    model: str
    input_tokens: int
    output_tokens: int
    cached: bool
    call_id: str | None


class Graded(NamedTuple):
    """score in [0, 1]. why: "" for a plain score; slow, crash: the grader was stopped, so the score is 0; reference: the row
    cannot be graded, which is no fault of the answer; error: the user's own grader failed; refused, unread: the model that grades
    refused, or its reply has no score. words: of that.

    raw: the score before it was brought into [0, 1], where that is another one. parts: raw scores by the names in a formula. calls:
    to strong models.
    """

    score: float
    why: str = ""
    words: str = ""
    raw: float | None = None
    parts: Mapping[str, float] = {}
    calls: tuple[ModelCall, ...] = ()

    @property
    def value(self) -> float:
        """As the grader gave it: what formulas compute with."""
        return self.score if self.raw is None else self.raw


def attempt_of(row: JudgeInput) -> Attempt:
    return Attempt.of(row.answer, row.reference or "", row.question, row.item)


def counts_of(graded: Iterable[Graded]) -> dict[str, int]:
    """Of what was not graded as it should be, and of the calls that graders made; what did not occur is left out."""
    rows = list(graded)
    calls = [call for one in rows for call in one.calls]
    counts = {
        "ungradable": sum(one.why == UNGRADABLE for one in rows),
        "grader_failed": sum(bool(one.why) and one.why != UNGRADABLE for one in rows),
        "calls": len(calls),
        "cached_calls": sum(call.cached for call in calls),
        "input_tokens": sum(call.input_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
    }
    return {name: count for name, count in counts.items() if count}
