"""`JobData`: the quality of a job's rows: how many have no reference, which contradict one another, whether there are too few. Reported by
events before money is spent, and in the report.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from services.orchestrator.method.durable import Emit
from shared.contracts.data import Question, Split, group_key
from shared.contracts.report import DataQuality, UsedFile
from shared.evaluation.parts import undivided
from shared.evaluation.statistics import caution
from shared.reporting.words import LIKENESS

MEASURED = (Split.DEV, Split.TEST)
SHOWN = 3


@dataclass(frozen=True)
class JobData:
    """splits: all questions of each. measured: those that students are measured on, of dev those that decide; choice: the part of dev that
    rounds and turns are chosen on, places: the deciding ones' among all measured of dev. chooses: the job chooses among rounds or turns.
    judge_measures: for want of references. measures_shares: what decides is right or wrong for each answer."""

    splits: Mapping[Split, Sequence[Question]]
    measured: Mapping[Split, Sequence[Question]]
    choice: Sequence[Question]
    places: Sequence[int]
    chooses: bool
    judge_measures: bool
    measures_shares: bool
    files: Sequence[UsedFile]
    emit: Emit

    async def announce(self) -> None:
        """Events where questions without a reference change how students are measured, and where rounds or turns are chosen on dev."""
        bare = {split: sum(not q.reference for q in self.splits[split]) for split in (Split.DEV, Split.TEST)}
        if self.judge_measures:
            message = (
                "dev or test has hardly any references, so the judge decides: it compares the answers of each student with those of the one it "
                "was trained from, in both orders. Give references, or at least labels for the judge"
            )
        else:
            counts = [
                f"{missing} of {len(self.splits[split])} questions of {split.value}"
                for split, missing in bare.items()
                if missing
            ]
            message = f"{' and '.join(counts)} have no reference; students are not measured on them"
        if any(bare.values()):
            await self.emit(message, level="warn")
        if self.choice:
            await self.emit(
                f"rounds and turns are chosen on {len(self.choice)} questions of dev, decisions rest on the other {len(self.places)}"
            )
        elif self.chooses:
            await self.emit(undivided(len(self.places)), level="warn")

    def quality(self) -> DataQuality:
        conflicts = conflicting([*self.splits.values()])
        bare = {split.value: sum(not row.reference for row in rows) for split, rows in self.splits.items()}
        return DataQuality(
            without_reference=bare,
            conflicting_references=len(conflicts),
            conflicting_ids=conflicts[:SHOWN],
            files=[*self.files],
        )

    def warnings(self, data: DataQuality, compared: int | None) -> list[str]:
        """For the report. compared: questions of the pilot's gain, where it has one."""
        return [*self._row_warnings(data), *self._interval_warnings(compared)]

    def _row_warnings(self, data: DataQuality) -> list[str]:
        lines = []
        for split, use in ((Split.DEV, "decisions rest"), (Split.TEST, "the table rests")):
            missing, n = data.without_reference[split.value], len(self.splits[split])
            if missing and not self.judge_measures:
                lines.append(
                    f"{missing} of {n} {split.value} questions have no reference: {use} on the other {n - missing}"
                )
            if split is Split.DEV and self.chooses and not self.choice:
                lines.append(undivided(len(self.places)))
            if groups := _groups(self.measured[split]):
                lines.append(
                    f"the {split.value} split's {len(self.measured[split])} measured questions are {groups} groups (one passage, "
                    "conversation, query or question each): its intervals count groups, as answers in a group are right or wrong together"
                )
        for file in data.files:
            if file.left:
                shared = ", ".join(f"{LIKENESS.get(kind, kind)} {count}" for kind, count in file.left.items())
                lines.append(
                    f"rows of dev and test of {file.file} have something in common with a row of another split ({shared}): what is measured on "
                    "them may be learned by heart"
                )
        if data.conflicting_references:
            first = ", ".join(data.conflicting_ids[0])
            lines.append(
                f"questions asked more than once with different references: {data.conflicting_references} ({first}); "
                "at most one of the answers can be counted as right each time"
            )
        return lines

    def _interval_warnings(self, compared: int | None) -> list[str]:
        """One line for each set of rows that is too small for its intervals. The pilot's gain is a mean whatever the metric."""
        sets = [(f"{split.value} split", self.measures_shares, len(self.measured[split])) for split in MEASURED]
        if compared is not None:
            sets.append(("pilot", False, compared))
        return [f"{name}: {warning}" for name, share, n in sets if (warning := caution(share, n))]


def _groups(questions: Sequence[Question]) -> int:
    """How many groups the questions are; 0 where each stands by itself."""
    groups = {group_key(question) for question in questions}
    return len(groups) if len(groups) < len(questions) else 0


def conflicting(splits: Sequence[Sequence[Question]]) -> list[list[str]]:
    """Ids of rows that ask the same in the same words and have different references, group by group. Reads the rows once for their
    hashes, and once more where there are such groups; what is kept of a row is a number."""

    def told() -> Iterator[tuple[int, Question]]:
        for row in chain.from_iterable(splits):
            if row.reference:
                yield _number(row.text.casefold()), row

    first: dict[int, int] = {}
    several = {key for key, row in told() if first.setdefault(key, (said := _number(row.reference or ""))) != said}
    groups: dict[int, list[str]] = {}
    if several:
        for key, row in told():
            if key in several:
                groups.setdefault(key, []).append(row.id)
    return list(groups.values())


def _number(text: str) -> int:
    """Of its words, in 64 bits."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest())
