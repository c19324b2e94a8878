"""The material that teacher and judge are shown: it is there, is text, and something reads it."""

from collections.abc import Iterator

from services.api.features.jobs.posted import Posted
from shared.artifacts.material import text_of
from shared.contracts.errors import NotFound
from shared.contracts.material import is_file
from shared.contracts.problems import Problem, warning

FIELD = "distillation.teacher.context"


def material(posted: Posted) -> Iterator[Problem | str]:
    contexts = posted.spec.teacher.contexts
    for place, given in enumerate(contexts):
        if is_file(given):
            yield from _unreadable(posted, given, FIELD if len(contexts) == 1 else f"{FIELD}[{place}]")
    of_rows = posted.data is not None and bool(posted.rows.column("teacher_bytes").any())
    if not contexts and not of_rows:
        return
    if posted.data is not None and not posted.asks_teacher and not posted.asks_judge:
        yield warning(
            "context_unread",
            "this job asks neither a teacher nor a judge, so nothing reads teacher.context or the rows' teacher_context: students "
            "never see them",
            "leave it out, or let the teacher answer (distill.answers: teacher)",
            FIELD,
        )
    elif contexts:
        yield f"context: {posted.material_bytes} bytes that teacher and judge are shown with every question, and no student"


def _unreadable(posted: Posted, file_id: str, param: str) -> Iterator[Problem]:
    try:
        text_of(posted.path_of(file_id.strip()))
    except NotFound:
        yield Problem(
            code="file_not_found",
            param=param,
            message=f"no file {file_id!r}",
            remedy="upload it with the purpose user_data and name the id that the answer has, or give the text itself",
        )
    except (ValueError, OSError) as error:
        yield Problem(
            code="bad_context",
            param=param,
            message=f"the file {file_id!r} cannot be shown to a teacher: {error}",
            remedy="upload a text in UTF-8, such as a schema in SQL or a manual in Markdown",
        )
