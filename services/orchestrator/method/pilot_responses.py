"""`PilotResponses`: what the teacher answered in the pilot, with and without the student's guidelines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.contracts.data import Question
from shared.contracts.distillation import Guidance
from shared.contracts.rows import TeacherResponse

KEYS = {Guidance.NONE: "unguided", Guidance.WEAK: "guided"}  # of the pilot's steps


@dataclass(frozen=True)
class PilotResponses:
    """by_way: to each question one, in their order; the first way is the one that was tried first."""

    questions: Sequence[Question]
    by_way: Mapping[Guidance, Sequence[TeacherResponse]]

    @property
    def first(self) -> Sequence[TeacherResponse]:
        return next(iter(self.by_way.values()))

    def counted(self, way: Guidance, outcome: str) -> int:
        return sum(response.outcome == outcome for response in self.by_way.get(way, ()))

    @property
    def usable(self) -> dict[str, int]:
        return {way.value: self.counted(way, "ok") for way in self.by_way}

    @property
    def cut_off(self) -> int:
        return sum(self.counted(way, "cut_off") for way in self.by_way)

    def usable_both_ways(self) -> list[tuple[Question, TeacherResponse, TeacherResponse]]:
        """Questions with their unguided and guided responses, where both can be used."""
        rows = zip(self.questions, self.by_way[Guidance.NONE], self.by_way[Guidance.WEAK], strict=True)
        return [row for row in rows if row[1].outcome == row[2].outcome == "ok"]
