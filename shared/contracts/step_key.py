"""`StepKey`: where a step stands in its job. Its text is the step's name for people and the restart point in the database."""

from dataclasses import dataclass, replace
from typing import Self

DEV_PARTS = ("choice", "rest")  # of a dev split, in keys of its measurements


@dataclass(frozen=True)
class StepKey:
    """phase/round/role/batch; what is None or empty is left out of the text.

    phase: "distill", "evaluate", or a stage of an export or import. round: the round of phase 2, the turn of phase 3, from 1.
    role: what the step does in its phase; it may name a path ("dev/iterate-1/answers"). batch: from 0.
    """

    phase: str
    round: int | None = None
    role: str = ""
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.round is not None and not self.role:
            raise ValueError(f"a step key of round {self.round} needs a role")
        if "/" in self.phase:
            raise ValueError(f"the phase of a step key is one word, not {self.phase!r}")

    def __str__(self) -> str:
        parts = (self.phase, self.round, self.role or None, self.batch)
        return "/".join(str(part) for part in parts if part is not None)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`, for any text. "iterate/1/try-2/answers/0": round 1, role "try-2/answers", batch 0."""
        phase, *rest = text.split("/")
        batch = int(rest.pop()) if rest and _is_number(rest[-1]) else None
        round_number = int(rest.pop(0)) if any(rest[1:]) and _is_number(rest[0]) else None
        return cls(phase, round_number, "/".join(rest), batch)

    def child(self, role: str) -> Self:
        """The step of a role below this key's own, of the same batch: "pilot/guided/0" -> "pilot/guided/answers/0"."""
        return replace(self, role=f"{self.role}/{role}".lstrip("/"))

    @property
    def action(self) -> str:
        """The last word of the role: "answers", "grades", "preferences", "train"."""
        return self.role.rpartition("/")[2]

    @property
    def split(self) -> str | None:
        """ "dev" or "test" for a measurement on one of them."""
        first = self.role.partition("/")[0]
        return first if self.phase == "evaluate" and first in ("dev", "test") else None

    @property
    def student(self) -> str:
        """Of a measurement, the student: "distill" for "dev/distill/answers" and for "dev/rest/distill/answers"."""
        _, *rest = self.role.split("/")
        return next((word for word in rest if word not in DEV_PARTS), "")

    @property
    def is_baseline(self) -> bool:
        """Whether what this step trains is only compared with the job's model."""
        return self.phase == "evaluate"


def _is_number(text: str) -> bool:
    """Whether `str(int(text))` is the text again, and fits into a column."""
    return text.isascii() and text.isdigit() and len(text) < 10 and (text == "0" or not text.startswith("0"))
