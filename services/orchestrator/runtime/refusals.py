"""Rows that a provider always refuses: which, why, and how many of them end the job."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from shared.contracts.errors import FatalError
from shared.contracts.refusals import LEAST, MOST, REFUSALS, RefusedRow
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind
from shared.plan.plan import PlannedRows

SHOWN = 3  # rows that a message names


class TooManyRefused(FatalError):
    code = "too_many_rows_refused"


class Refusals:
    """Of one job, by phase and kind of step. planned: rows of each. most: the share above which the job fails."""

    def __init__(self, planned: PlannedRows, most: float = MOST):
        self.most = most
        self._planned = planned
        self._asked: dict[tuple[str, StepKind], set[str]] = defaultdict(set)
        self._refused: dict[tuple[str, StepKind], dict[str, RefusedRow]] = defaultdict(dict)

    def note(self, key: StepKey, kind: StepKind, ids: Iterable[str], metrics: Mapping[str, Any]) -> list[RefusedRow]:
        """The refused rows of a finished step. ids: of all its rows; a phase may ask for one several times."""
        place = (key.phase, kind)
        self._asked[place].update(ids)
        new = [RefusedRow(**row | {"phase": key.phase}) for row in metrics.get(REFUSALS, [])]
        self._refused[place].update({row.id: row for row in new})
        return new

    @property
    def rows(self) -> list[RefusedRow]:
        """Of all phases so far, by phase and id; each phase's row once for all that the provider said of it."""
        rows = (row for refused in self._refused.values() for row in refused.values())
        different = {(row.phase, row.id, row.words): row for row in rows}
        return [different[which] for which in sorted(different)]

    def check(self, key: StepKey, kind: StepKind) -> None:
        """Raises TooManyRefused."""
        place = (key.phase, kind)
        refused, total = self._refused[place], max(len(self._asked[place]), int(self._planned.get(place, 0)))
        if len(refused) > max(LEAST, self.most * total):
            raise TooManyRefused(
                f"the provider refuses {len(refused)} of {total} rows of {key.phase}, more than the {self.most:.0%} that may be "
                f"missing; leave these rows out, ask another provider, or raise distillation.most_refused: "
                f"{described(list(refused.values()))}"
            )


def described(rows: list[RefusedRow]) -> str:
    """The first rows with the provider's words."""
    named = "; ".join(f"{row.id} {row.outcome}: {row.words}" for row in rows[:SHOWN])
    return named + (f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
