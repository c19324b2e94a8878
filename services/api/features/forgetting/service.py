"""Deleting what is stored of a person or a chat, and naming what was made of it before."""

from collections.abc import Sequence

from services.api.context import ProjectContext
from services.api.features.forgetting.copies import exports_of, runs_with, texts_of_chats, texts_of_rows
from services.api.features.forgetting.traces import Traces, traces_of
from shared.contracts.errors import NotFound
from shared.contracts.forgetting import ForgetRequest, ForgetResult
from shared.db.engine import empty_log
from shared.importing.personal_data import hashed_name
from shared.jobs.chat_store import Forgotten
from shared.platform.log import get_logger

log = get_logger(__name__)

SHOWN = 5  # unknown ids that an error names


def forget(context: ProjectContext, request: ForgetRequest) -> ForgetResult:
    """All that is named goes, or nothing. Raises NotFound for an id that neither a stored chat nor a row of a dataset has."""
    there = _of(context, request, dry_run=True)
    traces = traces_of(context, there.rows, request.file)
    _check(request, there, traces)
    texts = texts_of_chats(context, there.completions) | texts_of_rows(context, traces.datasets)
    ids = () if request.file is not None else there.rows  # ids of rows of a file mean something in its versions alone
    # All that is read is read before anything is deleted: the labels' texts are known from the chats alone, so the chats go last.
    evals = list(runs_with(context, ids, texts, traces.datasets))
    labels = context.stores.labels.forget(context.project, texts, request.dry_run)
    gone, cached = there, 0
    if not request.dry_run:
        gone = _of(context, request, dry_run=False)
        traces = traces_of(context, gone.rows, request.file)  # again: an import may have stored rows meanwhile
        labels += context.stores.labels.forget(context.project, texts_of_rows(context, traces.datasets))
        cached = _copies_of(context, request, gone)
    return ForgetResult(
        dry_run=request.dry_run,
        completions=len(gone.completions),
        feedback=gone.feedback,
        labels=labels,
        cached=cached,
        rows=gone.rows,
        datasets=traces.datasets,
        models=traces.models,
        evals=evals,
        exports=exports_of(context, traces.models),
        retrain=traces.retrain,
    )


def _of(context: ProjectContext, request: ForgetRequest, dry_run: bool) -> Forgotten:
    """A user whose name was masked is stored under another one. A row that was made of a chat has the chat's id."""
    people = [request.user, hashed_name(request.user)] if request.user is not None else []
    return context.stores.chats.forget(context.project, people, request.completions or request.rows, dry_run)


def _copies_of(context: ProjectContext, request: ForgetRequest, gone: Forgotten) -> int:
    """Delete what was kept of them beside the chats: cached answers, which are counted; responses to repeated requests; SQLite's log."""
    cached = context.ledger.forget(context.project, gone.rows)
    context.stores.answers.forget(context.project, [*gone.rows, *filter(None, [request.user])])
    for engine in {context.stores.chats.engine, context.ledger.engine}:
        if not empty_log(engine):
            log.info("the database's log is in use; it is emptied later")
    return cached


def _check(request: ForgetRequest, there: Forgotten, traces: Traces) -> None:
    held = {row for one in traces.datasets for row in one.rows}
    if request.file is not None:
        _refuse([name for name in request.rows if name not in held], "no version of the file has the row", "rows")
    known = held.union(there.completions)
    missing = [name for name in request.completions if name not in known]
    _refuse(missing, "no stored chat and no row of a dataset has the id", "completions")


def _refuse(missing: Sequence[str], message: str, param: str) -> None:
    if missing:
        shown = ", ".join(repr(name) for name in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise NotFound(f"{message} {shown}{more}; nothing was deleted", param=param, code="nothing_to_forget")
