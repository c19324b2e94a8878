"""The graders that decide in a job are tried on its own rows: a right answer must score full marks, a wrong one less."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from services.api.features.jobs.posted import Posted
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Grader, Phase
from shared.contracts.problems import Problem
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.splits import CODES

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

TRIED = 20  # rows that have a reference
LEAST_TOLD = 5  # pairs of different references from which one says that a grader cannot tell them apart


def graders(posted: Posted) -> Iterator[Problem | str]:
    """By the references: a row's own one is a right answer, that of another row a wrong one."""
    if posted.data is None:
        return
    spec = posted.spec
    train, answered = posted.rows.splits == CODES[Split.TRAIN], posted.rows.has(HAS_REFERENCE)
    if not posted.lacks_references:
        yield from _tried("distillation.primary_metric", spec.primary_metric, _first(posted, ~train & answered), 1.0)
    if Phase.ITERATE in spec.phases and spec.judge.grader is not None:
        yield from _tried(
            "distillation.judge.grader", spec.judge.grader, _first(posted, train & answered), spec.judge.pass_mark
        )


def _first(posted: Posted, which: "np.ndarray") -> list[Question]:
    return [*posted.rows.read(which.nonzero()[0][:TRIED])]


def _tried(param: str, grader: Grader, rows: list[Question], mark: float) -> Iterator[Problem | str]:
    from shared.judging.graders import score  # here: the graders' libraries take half a second

    references = [str(row.reference) for row in rows]
    if not references:
        return
    own = [score(grader, reference, reference) for reference in references]
    if max(own) < mark:
        yield Problem(
            code="grader_passes_nothing",
            param=param,
            message=f"grader {grader.value} was tried on {len(own)} rows with their own references as answers, and gives them "
            f"{max(own):g} of {mark:g} at most ({_short(references[0])}): no answer could be right",
            remedy=_remedy(grader),
        )
        return
    pairs = [(one, other) for one, other in pairwise(references) if one != other]
    if len(pairs) >= LEAST_TOLD and _cannot_tell(lambda answer, right: score(grader, answer, right), pairs):
        yield Problem(
            code="grader_passes_everything",
            param=param,
            message=f"grader {grader.value} gives full marks to the references of other rows too ({len(pairs)} were tried, such as "
            f"{_short(pairs[0][0])} for {_short(pairs[0][1])}): a wrong answer would be right",
            remedy=_remedy(grader),
        )
        return
    yield f"grader {grader.value} ({param.removeprefix('distillation.')}): tried on {len(own)} rows"


def _cannot_tell(score: Callable[[str, str], float], pairs: list[tuple[str, str]]) -> bool:
    return all(score(other, right) == 1.0 for right, other in pairs)


def _remedy(grader: Grader) -> str:
    others = ", ".join(other.value for other in Grader if other is not grader)
    return f"name another grader ({others}), or look at the references"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
