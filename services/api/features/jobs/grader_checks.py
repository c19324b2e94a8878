"""The graders that decide in a job are tried on its own rows: a right answer must score full marks, a wrong one less."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from services.api.features.graders.service import files_of
from services.api.features.graders.unfit import unfit, unknown_models
from services.api.features.jobs.posted import Posted
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Phase
from shared.contracts.grader_kinds import (
    TEXT_KINDS,
    UNGRADABLE,
    CodeTestsGrader,
    Grader,
    JsonSchemaGrader,
    MultiGrader,
    VerifyingGrader,
    asks_elsewhere,
    name_of,
    reads_items,
)
from shared.contracts.problems import Problem
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.splits import CODES

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

    from shared.grading.graders import Graders

TRIED = 20  # rows that have a reference
LEAST_TOLD = 5  # pairs of different references from which one says that a grader cannot tell them apart


def graders(posted: Posted) -> Iterator[Problem | str]:
    """By the references: a row's own one is a right answer, that of another row a wrong one."""
    if posted.data is None:
        return
    spec = posted.spec
    unfit = list(_unfit(posted))
    yield from unfit
    if unfit:
        return
    train, answered = posted.rows.splits == CODES[Split.TRAIN], posted.rows.has(HAS_REFERENCE)
    if not posted.lacks_references:
        yield from _tried(
            posted, "distillation.primary_metric", spec.primary_metric, _first(posted, ~train & answered), 1.0
        )
    decides = Phase.ITERATE in spec.phases or (Phase.EVOLVE in spec.phases and spec.contrasts)
    if decides and spec.judge.grader is not None:
        yield from _tried(
            posted,
            "distillation.judge.grader",
            spec.judge.grader,
            _first(posted, train & answered),
            spec.judge.pass_mark,
        )


def _first(posted: Posted, which: "np.ndarray") -> list[Question]:
    return [*posted.rows.read(which.nonzero()[0][:TRIED])]


def _unfit(posted: Posted) -> Iterator[Problem]:
    spec = posted.spec
    given_at = [("primary_metric", spec.primary_metric), ("judge.grader", spec.judge.grader)]
    given_at += [("evaluation.graders", grader) for grader in spec.evaluation.graders]
    for field, given in given_at:
        if given is not None and not isinstance(given, Grader):
            yield from unfit(posted.context, f"distillation.{field}", given)
            yield from unknown_models(posted.context, f"distillation.{field}", given)


def _tried(
    posted: Posted, param: str, grader: Grader | VerifyingGrader, rows: list[Question], mark: float
) -> Iterator[Problem | str]:
    from shared.grading.graders import Graders

    references = [str(row.reference) for row in rows]
    if not references:
        return
    verifying = [] if isinstance(grader, Grader) else [grader]
    files = files_of(posted.context, verifying)
    if any(asks_elsewhere(spec) for spec in verifying):
        return  # a try costs money, or a stranger's time
    platform = posted.context.platform
    with Graders(verifying, files, platform.sandbox, plugins=platform.grader_plugins) as all_graders:
        yield from _tried_on(all_graders, param, grader, rows, mark)


def _tried_on(
    graders: "Graders", param: str, grader: Grader | VerifyingGrader, rows: list[Question], mark: float
) -> Iterator[Problem | str]:
    name, references = name_of(grader), [str(row.reference) for row in rows]
    graded = [
        graders.score(name, reference, reference, row.text, row.item)
        for row, reference in zip(rows, references, strict=True)
    ]
    if unreadable := [reference for reference, own in zip(references, graded, strict=True) if own.why == UNGRADABLE]:
        why = next(own.words for own in graded if own.why == UNGRADABLE)
        yield Problem(
            code="ungradable_references",
            param=param,
            message=f"grader {name} cannot read {len(unreadable)} of the first {len(references)} references, such as "
            f"{_short(unreadable[0])}{why and f' ({why})'}",
            remedy="correct these rows, or name another grader",
        )
        return
    if all(one.why == "error" for one in graded):
        yield Problem(
            code="bad_grader",
            param=param,
            message=f"grader {name} failed at each of {len(graded)} references as answers: {graded[0].words}",
            remedy="correct its source",
        )
        return
    if isinstance(grader, (JsonSchemaGrader, CodeTestsGrader, MultiGrader, *TEXT_KINDS)) or reads_items(grader):
        yield f"grader {name} ({param.removeprefix('distillation.')}): reads the references of {len(graded)} rows"
        return  # a reference need not be an answer to itself
    own = [one.score for one in graded]
    if max(own) < mark:
        yield Problem(
            code="grader_passes_nothing",
            param=param,
            message=f"grader {name} was tried on {len(own)} rows with their own references as answers, and gives them "
            f"{max(own):g} of {mark:g} at most ({_short(references[0])}): no answer could be right",
            remedy=_remedy(name),
        )
        return
    pairs = [(one, other) for one, other in pairwise(references) if one != other]
    if len(pairs) >= LEAST_TOLD and _cannot_tell(lambda answer, right: graders.score(name, answer, right).score, pairs):
        yield Problem(
            code="grader_passes_everything",
            param=param,
            message=f"grader {name} gives full marks to the references of other rows too ({len(pairs)} were tried, such as "
            f"{_short(pairs[0][0])} for {_short(pairs[0][1])}): a wrong answer would be right",
            remedy=_remedy(name),
        )
        return
    yield f"grader {name} ({param.removeprefix('distillation.')}): tried on {len(own)} rows"


def _cannot_tell(score: Callable[[str, str], float], pairs: list[tuple[str, str]]) -> bool:
    return all(score(other, right) == 1.0 for right, other in pairs)


def _remedy(name: str) -> str:
    others = ", ".join(other.value for other in Grader if other.value != name)
    return f"name another grader ({others}), or look at the references"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
