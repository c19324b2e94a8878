"""Graders are checked, and tried on one answer."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.api.context import ProjectContext
from services.api.features.graders.unfit import unfit, unknown_models
from services.api.gateway_client import PHASE
from shared.contracts.errors import MeteorError
from shared.contracts.grader_kinds import (
    UNGRADABLE,
    Grader,
    PluginGrader,
    VerifyingGrader,
    file_ids,
    name_of,
    reads_reference,
)
from shared.contracts.grader_runs import (
    GraderErrors,
    GraderRequest,
    GraderRun,
    GraderRunMetadata,
    GraderRunRequest,
    GraderValidated,
    ModelTokens,
)
from shared.contracts.problems import refuse
from shared.grading.attempt import Attempt, Graded, ModelCall
from shared.platform.call_headers import origin_headers

if TYPE_CHECKING:
    from shared.platform.gateway_client import GatewayClient

CALL_S = 300.0
AT_ONCE = 4  # graders that are tried at once: each may have a process with memory of its own
_places = asyncio.Semaphore(AT_ONCE)


async def validate(context: ProjectContext, request: GraderRequest) -> GraderValidated:
    """Raises Refused with all that is wrong."""
    await asyncio.to_thread(_refuse_unfit, context, request.grader)
    return GraderValidated(grader=request.given)


async def run(context: ProjectContext, request: GraderRunRequest) -> GraderRun:
    """Raises Refused for a grader that can never grade; one that fails at this answer is told in the metadata."""
    grader = request.grader
    await asyncio.to_thread(_refuse_unfit, context, grader)
    attempt = Attempt(request.model_sample, request.item)
    if reads_reference(grader) and not attempt.reference:
        return _as_run(request, Graded(0.0, UNGRADABLE, "the item has no `reference` to compare with"), 0.0)
    (graded,), seconds = await grade(context, grader, [attempt])
    return _as_run(request, graded, seconds)


async def grade(
    context: ProjectContext, grader: Grader | VerifyingGrader, attempts: Sequence[Attempt]
) -> tuple[list[Graded], float]:
    """By a grader that was checked; few are tried at once. Returns what it found, and the seconds that it took."""
    from shared.grading.graders import Graders  # here: the API starts without the graders' libraries

    verifying = [] if isinstance(grader, Grader) else [grader]
    async with _places:
        began = time.monotonic()
        files, platform = files_of(context, verifying), context.platform
        async with gateway_of(context) as gateway:
            with Graders(
                verifying,
                files,
                platform.sandbox,
                gateway,
                platform.grader_networks,
                plugins=platform.grader_plugins,
            ) as graders:
                try:
                    graded = await graders.score_all(name_of(grader), attempts)
                except MeteorError as error:
                    graded = [Graded(0.0, "unreachable", error.message)] * len(attempts)
        return graded, time.monotonic() - began


def gateway_of(context: ProjectContext) -> "GatewayClient":
    """For calls on the ledger of the caller's project that belong to no job."""
    from shared.platform.gateway_client import GatewayClient  # here: it loads the openai package

    token = context.platform.internal_token.get_secret_value()
    return GatewayClient(
        context.settings.gateway_url,
        token,
        origin_headers(context.project, "", "", PHASE),
        timeout_s=CALL_S,
        param="grader",
    )


def files_of(context: ProjectContext, graders: Sequence[VerifyingGrader]) -> dict[str, Path]:
    """The uploaded files that graders read, by their ids. Raises NotFound."""
    return {name: context.uploads.path(context.file(name).sha256) for name in file_ids(graders)}


def _refuse_unfit(context: ProjectContext, grader: Grader | VerifyingGrader) -> None:
    if not isinstance(grader, Grader):
        refuse([*unfit(context, "grader", grader), *unknown_models(context, "grader", grader)])


def _as_run(request: GraderRunRequest, graded: Graded, seconds: float) -> GraderRun:
    given = request.given if isinstance(request.given, dict) else {"type": request.given}
    parts = dict(graded.parts)
    return GraderRun(
        reward=graded.value,
        metadata=GraderRunMetadata(
            name=str(given.get("name") or given["type"]),
            type=str(given["type"]),
            errors=_errors(request.grader, graded),
            execution_time=round(seconds, 6),
            scores=parts,
            token_usage=sum(call.input_tokens + call.output_tokens for call in graded.calls) if graded.calls else None,
            sampled_model_name=graded.calls[-1].model if graded.calls else None,
            details=graded.words or None,
        ),
        sub_rewards=parts,
        model_grader_token_usage_per_model=_tokens(graded.calls),
    )


def _errors(grader: Grader | VerifyingGrader, graded: Graded) -> GraderErrors:
    kind, words = name_of(grader), graded.words or None
    plugin = isinstance(grader, PluginGrader)
    match graded.why:
        case "":
            return GraderErrors()
        case why if why == UNGRADABLE:
            return GraderErrors(invalid_variable_error=True)
        case "error" if plugin:
            return GraderErrors(other_error=True)
        case "error":
            return GraderErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=words)
        case "refused":
            return GraderErrors(model_grader_refusal_error=True)
        case "unread":
            return GraderErrors(model_grader_parse_error=True)
        case "unreachable" if kind == "python":
            return GraderErrors(python_grader_server_error=True, python_grader_server_error_type=words)
        case "unreachable":
            return GraderErrors(model_grader_server_error=True, model_grader_server_error_details=words)
        case _:  # stopped for its time or its memory
            return GraderErrors(unresponsive_reward_error=True)


def _tokens(calls: Sequence[ModelCall]) -> dict[str, ModelTokens]:
    usage: dict[str, ModelTokens] = defaultdict(ModelTokens)
    for call in calls:
        before = usage[call.model]
        usage[call.model] = ModelTokens(
            prompt_tokens=before.prompt_tokens + call.input_tokens,
            completion_tokens=before.completion_tokens + call.output_tokens,
            total_tokens=before.total_tokens + call.input_tokens + call.output_tokens,
            cached_tokens=before.cached_tokens + (call.input_tokens if call.cached else 0),
        )
    return usage
