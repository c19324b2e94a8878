"""The `judge` queue: verdicts, preferences and scores through the gateway, grades on this machine."""

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

from services.judge.agree import agree
from services.judge.check import check
from services.judge.compare import compare
from services.judge.grade import grade
from services.judge.rate import rate
from services.judge.review import review
from services.judge.settings import judge_settings
from shared.artifacts import material
from shared.contracts.eval_results import CheckInput, CheckParams
from shared.contracts.grader_kinds import VerifyingGrader, models_of
from shared.contracts.rows import Grades, JudgeInput, Sampled, Votes
from shared.contracts.steps import AgreeParams, JudgeParams, StepKind
from shared.grading.agreement import Voter
from shared.grading.graders import Graders
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress
from shared.queue.step_gateway import step_gateway
from shared.queue.step_handler import RowsAndMetrics, StepHandler, by_kind, step_handler
from shared.queue.step_task import StepContext

JudgeRow = TypeVar("JudgeRow")


class Ask(Protocol[JudgeRow]):
    """material: texts that the judge is shown with every row."""

    def __call__(
        self,
        gateway: GatewayClient,
        params: JudgeParams,
        rows: list[JudgeRow],
        progress: OnProgress,
        *,
        material: Sequence[str] = (),
    ) -> Awaitable[RowsAndMetrics]: ...


def asks_the_judge(kind: StepKind, ask: Ask[JudgeRow]) -> StepHandler[JudgeParams, JudgeRow]:
    return StepHandler(kind, partial(_through_gateway, ask))


async def _through_gateway(
    ask: Ask[JudgeRow], params: JudgeParams, rows: list[JudgeRow], context: StepContext
) -> RowsAndMetrics:
    url = judge_settings().gateway_url
    async with step_gateway(context, url, batch=params.batch, param="distillation.judge") as gateway:
        shown = material.read(context.artifacts, params.material)
        judged, counts = await ask(gateway, params, rows, context.progress, material=shown)
        return judged, counts | gateway.refusals()


def graders_of(params: JudgeParams, context: StepContext, gateway: GatewayClient | None = None) -> Graders:
    """gateway: for those that ask a strong model. Raises ArtifactMissing for a file that is gone, UserError for code where the sandbox is off."""
    files = {name: context.artifacts.file(digest) for name, digest in params.files.items()}
    settings = context.settings
    return Graders(
        params.verify,
        files,
        settings.sandbox,
        gateway,
        settings.grader_networks,
        context.scratch,
        settings.grader_plugins,
    )


@asynccontextmanager
async def grading_gateway(
    verifying: Sequence[VerifyingGrader], context: StepContext
) -> AsyncGenerator[GatewayClient | None]:
    """The gateway where a grader asks a strong model."""
    if not any(models_of(grader) for grader in verifying):
        yield None
        return
    async with step_gateway(context, judge_settings().gateway_url, param="distillation.judge.grader") as gateway:
        yield gateway


@step_handler(StepKind.REVIEW)
async def review_rows(params: JudgeParams, rows: list[JudgeInput], context: StepContext) -> RowsAndMetrics:
    async def ask(
        gateway: GatewayClient,
        params: JudgeParams,
        rows: list[JudgeInput],
        progress: OnProgress,
        *,
        material: Sequence[str] = (),
    ) -> RowsAndMetrics:
        with graders_of(params, context, gateway) as graders:
            return await review(gateway, params, rows, progress, graders, material=material)

    return await _through_gateway(ask, params, rows, context)


@step_handler(StepKind.GRADE)
async def grade_rows(
    params: JudgeParams, rows: list[JudgeInput], context: StepContext
) -> tuple[list[Grades], dict[str, int]]:
    async with grading_gateway(params.verify, context) as gateway:
        with graders_of(params, context, gateway) as graders:
            return await grade(graders, rows, context.progress)


@step_handler(StepKind.AGREE)
async def agree_rows(
    params: AgreeParams, rows: list[Sampled], context: StepContext
) -> tuple[list[Votes], dict[str, int]]:
    files = {name: context.artifacts.file(digest) for name, digest in params.files.items()}
    with Voter(params.grader, files) as voter:
        return await agree(voter, rows, context.progress)


@step_handler(StepKind.CHECK)
async def check_rows(params: CheckParams, rows: list[CheckInput], context: StepContext) -> RowsAndMetrics:
    """Raises ArtifactMissing for a file that is gone, UserError for code where the sandbox is off."""
    files = {name: context.artifacts.file(digest) for name, digest in params.files.items()}
    verifying = [one.verifying for one in params.criteria if one.verifying is not None]
    async with grading_gateway(verifying, context) as gateway:
        settings = context.settings
        return await check(
            params.criteria,
            files,
            settings.sandbox,
            rows,
            context.progress,
            gateway,
            settings.grader_networks,
            settings.grader_plugins,
        )


HANDLERS = by_kind(
    review_rows,
    asks_the_judge(StepKind.COMPARE, compare),
    asks_the_judge(StepKind.RATE, rate),
    grade_rows,
    check_rows,
    agree_rows,
)
