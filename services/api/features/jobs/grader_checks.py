"""The graders that decide in a job are tried on its own rows: a right answer must score full marks, a wrong one less."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from services.api.context import ProjectContext
from services.api.features.jobs.posted import Posted
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Phase
from shared.contracts.errors import NotFound
from shared.contracts.grader_kinds import (
    UNGRADABLE,
    CodeTestsGrader,
    Grader,
    JsonSchemaGrader,
    MultiGrader,
    PythonGrader,
    SqlResultGrader,
    VerifyingGrader,
    name_of,
    parts_of,
    reads_items,
)
from shared.contracts.problems import Problem
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.splits import CODES
from shared.sandbox.confine import missing

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
    if Phase.ITERATE in spec.phases and spec.judge.grader is not None:
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
    """Settings of the job's graders that can never grade."""
    spec = posted.spec
    places = [("primary_metric", spec.primary_metric), ("judge.grader", spec.judge.grader)]
    places += [("evaluation.graders", grader) for grader in spec.evaluation.graders]
    verifying = [(field, given) for field, given in places if given is not None and not isinstance(given, Grader)]
    for field, grader in [(field, part) for field, given in verifying for part in parts_of(given)]:
        yield from unfit(posted.context, f"distillation.{field}", grader)


def unfit(context: ProjectContext, param: str, grader: VerifyingGrader) -> Iterator[Problem]:
    """Settings of one grader that can never grade: a file that is no database, a schema that is none, code without a sandbox."""
    from shared.grading.json_values import checked_schema  # here: the API starts without the graders' libraries
    from shared.grading.sql import checked_database

    if isinstance(grader, SqlResultGrader):
        try:
            checked_database(context.files / context.file(grader.database).sha256)
        except (NotFound, ValueError) as error:
            yield Problem(
                code="bad_grader",
                param=f"{param}.database",
                message=f"the database {grader.database!r} of sql_result cannot be used: {error}",
                remedy="upload a SQLite file with the purpose user_data, and name the id that the answer has",
            )
    elif isinstance(grader, PythonGrader | CodeTestsGrader):
        lacks = [] if context.platform.sandbox else ["METEOR_SANDBOX=true at the api and the judge's workers"]
        if lacks := lacks or missing():
            yield Problem(
                code="sandbox_off",
                param=param,
                message=f"{grader.type} runs code, and this installation runs none: it lacks {', '.join(lacks)}",
                remedy="have the operator turn the sandbox on, or name a grader that runs no code",
            )
    elif isinstance(grader, JsonSchemaGrader) and grader.of is not None:
        try:
            checked_schema(grader.of)
        except ValueError as error:
            yield Problem(
                code="bad_grader",
                param=f"{param}.schema",
                message=f"the schema of json_schema cannot be used: {error}",
                remedy="give a JSON schema that is complete in itself",
            )


def _tried(
    posted: Posted, param: str, grader: Grader | VerifyingGrader, rows: list[Question], mark: float
) -> Iterator[Problem | str]:
    from shared.grading.graders import Graders

    references = [str(row.reference) for row in rows]
    if not references:
        return
    verifying = [] if isinstance(grader, Grader) else [grader]
    files = {
        part.database: posted.context.files / posted.context.file(part.database).sha256
        for spec in verifying
        for part in parts_of(spec)
        if isinstance(part, SqlResultGrader)
    }
    with Graders(verifying, files, posted.context.platform.sandbox) as all_graders:
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
        yield Problem(
            code="ungradable_references",
            param=param,
            message=f"grader {name} cannot read {len(unreadable)} of the first {len(references)} references, such as "
            f"{_short(unreadable[0])}",
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
    if isinstance(grader, JsonSchemaGrader | CodeTestsGrader | PythonGrader | MultiGrader) or reads_items(grader):
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
