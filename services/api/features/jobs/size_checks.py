"""Checks of sizes: rows against the contexts of student and teacher, the job against the disk, the memory and the budgets.

What cannot be known exactly is bounded from below. Tokens are estimated by bytes, about four per token: warnings say so, and a job near a limit
is not refused.
"""

import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.api.features.jobs.estimates import estimate_of
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.training_memory import (
    GB,
    fit,
    folder_of,
    gpu_count,
    in_parts_gb,
    shape_of,
    tokens_of,
    training_gb,
)
from shared.contracts.data import Split
from shared.contracts.distillation import Judge, Teacher
from shared.contracts.problems import Problem, warning
from shared.datasets.rows import JobRows
from shared.datasets.splits import CODES
from shared.plan.device_memory import parameters_of
from shared.plan.rates import TEMPLATE

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

PROMPT = 150  # tokens of the teacher's prompt around a question
SHOWN = 5  # ids of rows in a message


def row_lengths(posted: Posted) -> Iterator[Problem | str]:
    """Questions fit into the student's context with room for an answer, and examples into what training reads."""
    if posted.data is None:
        return
    limit, wanted = _context(posted), posted.spec.student_tokens
    if limit is not None and wanted + TEMPLATE > limit:
        yield Problem(
            code="answer_tokens_too_large",
            param="distillation.answer_tokens",
            message=f"the student's context has {limit} tokens for question and answer together, and answer_tokens is {wanted}",
            remedy="lower distillation.answer_tokens, or raise METEOR_ENGINE_MAX_MODEL_LEN where the student allows it",
        )
    elif limit is not None:
        yield from _too_long(posted, limit, wanted)
    longest = posted.spec.adapter.max_length
    rows = posted.rows
    learned = rows.splits == CODES[Split.TRAIN]
    tokens = tokens_of(rows.column("question_bytes")) + tokens_of(rows.column("reference_bytes")) + TEMPLATE
    cut = learned & (tokens > longest)
    if cut.any():
        yield warning(
            "rows_longer_than_training",
            f"{cut.sum()} of {learned.sum()} rows of the train split ({_names(rows, cut)}) have about more than {longest} tokens with "
            "their answers, and training leaves such rows out",
            "raise distillation.adapter.max_length, or shorten them",
            "distillation.adapter.max_length",
        )
    if limit is not None:
        yield f"row lengths: against {limit} tokens of context and {longest} in training"


def _too_long(posted: Posted, limit: int, wanted: int) -> Iterator[Problem]:
    rows = posted.rows
    tokens = tokens_of(rows.column("question_bytes")) + TEMPLATE
    refused, tight = tokens >= limit, (limit - wanted < tokens) & (tokens < limit)
    advice = "shorten or leave out these rows, or raise METEOR_ENGINE_MAX_MODEL_LEN where the student allows it"
    if refused.sum() > len(rows) / 2:
        yield Problem(
            code="rows_too_long",
            param="training_file",
            message=f"{refused.sum()} of {len(rows)} rows ({_names(rows, refused)}) are longer than the student's context of {limit} tokens",
            remedy=advice,
        )
    elif refused.any():
        yield warning(
            "rows_too_long",
            f"{refused.sum()} of {len(rows)} rows ({_names(rows, refused)}) are longer than the student's context of {limit} tokens and will "
            "be refused",
            advice,
            "training_file",
        )
    if tight.any():
        yield warning(
            "rows_leave_no_room",
            f"{tight.sum()} of {len(rows)} rows ({_names(rows, tight)}) leave less than answer_tokens {wanted} of the student's context of "
            f"{limit} tokens, so their answers may be cut",
            advice,
            "training_file",
        )


def teacher_context(posted: Posted) -> Iterator[Problem | str]:
    """Questions fit into the teacher's context with room for an answer, as far as it has said how long that is."""
    if posted.data is None or not posted.asks_teacher:
        return
    spec, rows = posted.spec.teacher, posted.rows
    tokens = _shown_tokens(posted)
    if spec.ground:
        tokens = tokens + tokens_of(rows.column("reference_bytes"))
    learned = rows.splits == CODES[Split.TRAIN]
    yield from _strong_context(posted, "teacher", spec, tokens, learned, " of the train split")


def judge_context(posted: Posted) -> Iterator[Problem | str]:
    """The same for the judge, where it is shown material beside the question, the reference and an answer."""
    if posted.data is None or not posted.asks_judge:
        return
    rows = posted.rows
    if not posted.material_bytes and not rows.column("teacher_bytes").any():
        return
    tokens = _shown_tokens(posted) + tokens_of(rows.column("reference_bytes"))
    yield from _strong_context(posted, "judge", posted.spec.judge, tokens, rows.splits >= 0, "")


def _shown_tokens(posted: Posted) -> "np.ndarray":
    """By row, of the prompt, the question and all material."""
    rows = posted.rows
    return tokens_of(rows.column("question_bytes") + rows.column("teacher_bytes") + posted.material_bytes) + PROMPT


def _strong_context(
    posted: Posted, role: str, spec: Teacher | Judge, tokens: "np.ndarray", which: "np.ndarray", among: str
) -> Iterator[Problem | str]:
    """tokens: of each row's prompt at least. which: the rows that are asked about; among: what they are, for people."""
    limit = posted.context.providers.contexts().get(spec.provider) if posted.prices is not None else None
    if limit is None:
        return
    rows, count = posted.rows, which.sum()
    shown = ", shorten teacher.context" if posted.material_bytes else ""
    other = f"name a {role} with a larger context{shown}, or shorten or leave out these rows"
    refused, tight = which & (tokens >= limit), which & (limit - spec.max_tokens < tokens) & (tokens < limit)
    told = f"the context of {limit} tokens of the {role} {spec.provider!r}"
    if refused.sum() > count / 2:
        yield Problem(
            code=f"rows_too_long_for_{role}",
            param="training_file",
            message=f"{refused.sum()} of {count} rows{among} ({_names(rows, refused)}) are longer than {told}",
            remedy=other,
        )
        return
    if refused.any():
        message = f"{refused.sum()} of {count} rows{among} ({_names(rows, refused)}) are longer than {told} and will be refused"
        yield warning(f"rows_too_long_for_{role}", message, other, "training_file")
    if tight.any():
        message = f"{tight.sum()} of {count} rows{among} ({_names(rows, tight)}) leave less than {role}.max_tokens {spec.max_tokens} of {told}, so their answers get less"
        setting = f"distillation.{role}.max_tokens"
        yield warning(f"rows_leave_no_room_for_{role}", message, f"lower {setting}, or {other}", setting)
    if not refused.any() and not tight.any():
        yield f"row lengths: against {told}"


def disk(posted: Posted) -> Iterator[Problem | str]:
    """What the job writes fits on the disk, beside what is kept free."""
    folder = folder_of(posted)
    parameters, settings = parameters_of(folder), posted.context.platform
    if parameters is None or posted.data is None:
        return
    spec, trainings = posted.spec, len(posted.spec.phases) + max(0, posted.spec.iterate.rounds - 1)
    full = spec.adapter.is_whole
    # a checkpoint (12 bytes a parameter) and, per training, the weights among the artifacts and for the engine
    need = (12 + 8 * trainings) * parameters if full else 0.02 * spec.adapter.rank / 16 * parameters * 8 * trainings
    place = settings.data
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free - settings.disk_floor
    if need > free:
        yield Problem(
            code="disk_too_small",
            param="distillation.adapter.method" if full else None,
            message=f"the job writes about {need / GB:.1f} GB, and {max(free, 0) / GB:.1f} GB are free on the disk of the data folder "
            f"beside the {settings.disk_floor / GB:.1f} GB that stay free",
            remedy="make room, run `meteor gc`, or lower METEOR_DISK_FLOOR_GB",
        )
    else:
        yield f"disk: about {need / GB:.1f} GB of {free / GB:.0f} GB free"


def memory(posted: Posted) -> Iterator[Problem | str]:
    """The student's training fits into this machine's memory: that of its GPU where it has one, beside the engine. Where a queue outside
    this machine may bring the training to another one, nothing is refused."""
    told, need = fit(posted), training_gb(posted)
    if told is None or need is None:
        return
    beside = f" beside {told.engine_gb:.1f} GB of the engine" if told.engine_gb else ""
    if told.fits:
        takes = f"{need.low:.1f} to {need.high:.1f} GB"
        if told.training_gb < need.low:
            takes = f"{told.training_gb:.1f} GB at least on each of several GPUs, which hold its base in parts,"
        yield f"memory: training takes {takes} of {told.device_gb:.0f} GB{beside}"
        return
    together = in_parts_gb(posted, gpu_count()) <= told.device_gb - told.engine_gb
    certain = told.training_gb > told.device_gb and posted.context.platform.is_alone and not together
    yield Problem(
        code="memory_too_small",
        param="distillation.adapter",
        level="error" if certain else "warning",
        message=f"training {posted.request.model!r} takes {told.training_gb:.1f} GB at least, one row at a time, and this machine's "
        f"{'GPU' if told.device == 'gpu' else 'memory'} has {told.device_gb:.1f} GB{beside}",
        remedy=told.remedy,
    )


def budget(posted: Posted) -> Iterator[Problem | str]:
    """The budget holds what the job will ask at least."""
    if posted.prices is None or posted.data is None or not posted.asks:
        return
    total, limits = estimate_of(posted).total, posted.spec.budget
    wanted = {
        "max_usd": (limits.max_usd, total.usd, "USD"),
        "max_tokens": (limits.max_tokens, total.input_tokens + total.output_tokens, "tokens"),
        "max_calls": (limits.max_calls, total.calls, "calls"),
    }
    then = "pauses" if limits.on_exceed == "pause" else "fails"
    for name, (limit, span, unit) in wanted.items():
        if limit is not None and span is not None and limit < span.high:
            certain = limit < span.low
            yield Problem(
                code="budget_too_small" if certain else "budget_may_not_suffice",
                level="error" if certain and not posted.forked else "warning",
                message=f"the budget is {limit:,g} {unit}, and the job is estimated at {span.low:,.4g} to {span.high:,.4g} {unit}: it "
                f"{then if certain else f'may reach the limit, and {then} then'}",
                remedy=f"raise distillation.budget.{name}, or ask for fewer questions",
                param=f"distillation.budget.{name}",
            )


def shared_budgets(posted: Posted) -> Iterator[Problem | str]:
    """What is left of the budgets of key and project holds what the job will ask. Other jobs may spend of it before."""
    if posted.prices is None or posted.data is None or not posted.asks:
        return
    context, total = posted.context, estimate_of(posted).total
    spans = {"usd": total.usd, "tokens": total.input_tokens + total.output_tokens, "calls": total.calls}
    stops = "fails" if posted.spec.budget.on_exceed == "fail" else "pauses"
    for account in context.ledger.shared_budgets(context.project, context.key_id, time.time()):
        for field, span in spans.items():
            limit, spent = getattr(account.limits, field), getattr(account.spent, field)
            if limit is None or span is None or limit - spent >= span.high:
                continue
            unit = "USD" if field == "usd" else field
            certain = limit - spent < span.low
            never = certain and (stops == "fails" or (limit < span.low and not account.is_of_day))
            yield Problem(
                code="budget_too_small" if certain else "budget_may_not_suffice",
                level="error" if never and not posted.forked else "warning",
                message=f"{account.name} has {max(limit - spent, 0):,.4g} of {limit:,g} {unit} left, and the job is estimated at "
                f"{span.low:,.4g} to {span.high:,.4g} {unit}: it {stops if certain else f'may use it up, and {stops} then'}",
                remedy=f"{account.who_raises(field)}; or ask for fewer questions"
                + ("" if never else f", or resume the job in the next {'day' if account.is_of_day else 'month'}"),
            )


def _names(rows: JobRows, which: "np.ndarray") -> str:
    """The ids of the first of these rows."""
    places = which.nonzero()[0]
    return ", ".join(row.id for row in rows.read(places[:SHOWN])) + (", ..." if len(places) > SHOWN else "")


def _context(posted: Posted) -> int | None:
    """Tokens of question and answer that the engine takes; None where a server of the user's own decides."""
    served = [posted.context.settings.max_model_len] if posted.context.swaps else []
    known = [shape_of(folder_of(posted)).context, *served]
    return min((limit for limit in known if limit), default=None)


SIZE_CHECKS = (row_lengths, teacher_context, judge_context, disk, memory, budget, shared_budgets)
