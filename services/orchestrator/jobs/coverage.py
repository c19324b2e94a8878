"""The coverage map of generated questions: how many of each topic at each level are wanted, there, and asked for next. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

from services.orchestrator.jobs.distinct import Distinct
from shared.contracts.coverage import CoverageCell, CoveredCell, Proposal
from shared.contracts.imports import Passage

SHOWN_KNOWN = 30  # questions of a cell that the model is told not to repeat
SURPLUS = 1.25  # asked for per missing question, since some are like others


def planned(topics: Sequence[str], levels: Sequence[str], count: int) -> list[CoverageCell]:
    """`count` questions in equal parts over topics and levels; parts differ by one at most. With fewer questions than cells
    there are fewer topics, and at last fewer levels, so that each cell has a question."""
    topics = topics[: max(1, count // len(levels))]
    cells = [(topic, level) for level, topic in product(levels, topics)][:count]
    each, more = divmod(count, len(cells))
    counts = {cell: each + (number < more) for number, cell in enumerate(cells)}
    return [
        CoverageCell(topic=topic, level=level, questions=counts[topic, level])
        for topic, level in product(topics, levels)
        if (topic, level) in counts
    ]


@dataclass(frozen=True)
class Made:
    """A question and where it is from. material: the passage or the logged question that it was made from."""

    question: str
    topic: str
    level: str
    material: Passage | None


@dataclass
class Coverage:
    """The map while it is filled. material: given out in turn, so that all of it is used before any is used again."""

    cells: Sequence[CoverageCell]
    material: Sequence[Passage] = ()
    made: dict[int, list[Made]] = field(default_factory=dict)
    distinct: Distinct = field(default_factory=Distinct)
    _given: int = 0
    _asked: dict[str, tuple[int, Passage | None]] = field(default_factory=dict)

    @property
    def questions(self) -> list[Made]:
        return [one for number in range(len(self.cells)) for one in self.made.get(number, [])]

    @property
    def missing(self) -> int:
        return sum(cell.questions - len(self.made.get(number, [])) for number, cell in enumerate(self.cells))

    def proposals(self, round_number: int, most: int) -> list[Proposal]:
        """One request for each cell that is not full. most: questions of one request."""
        wanted = []
        for number, cell in enumerate(self.cells):
            there = self.made.get(number, [])
            missing = cell.questions - len(there)
            if missing <= 0:
                continue
            passage = self.material[self._given % len(self.material)] if self.material else None
            self._given += 1
            name = f"{round_number}-{number}"
            self._asked[name] = (number, passage)
            wanted.append(
                Proposal(
                    id=name,
                    count=min(most, round(missing * SURPLUS + 0.5)),
                    topic=cell.topic,
                    level=cell.level,
                    known=[one.question for one in there[-SHOWN_KNOWN:]],
                    material=[passage.shown] if passage else [],
                    origin="" if passage is None else "log" if passage.document == "log" else "passage",
                )
            )
        return wanted

    def take(self, name: str, questions: Iterable[str]) -> tuple[int, int]:
        """The answer to a proposal; returns (like another question, over what the cell wants)."""
        number, passage = self._asked[name]
        cell, there = self.cells[number], self.made.setdefault(number, [])
        alike = over = 0
        for question in questions:
            if len(there) >= cell.questions:
                over += 1
            elif self.distinct.add(question):
                there.append(Made(question, cell.topic, cell.level, passage))
            else:
                alike += 1
        return alike, over

    def covered(self) -> list[CoveredCell]:
        return [
            CoveredCell(**cell.model_dump(), made=len(self.made.get(number, [])))
            for number, cell in enumerate(self.cells)
        ]
