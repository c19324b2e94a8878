"""Which version answers a chat while its alias has a canary, who gets a copy, and what is observed of both."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from fastapi import Request

from services.api.context import ProjectContext
from services.api.features.canaries import pairs
from services.api.features.canaries.recorder import CanaryRecorder
from services.api.features.chat import service as chat
from services.api.features.chat.metrics import Observer
from services.api.features.chat.service import Asked
from services.api.features.chat.shadows import Compare
from services.api.model_router import ModelRoute, Target
from shared.contracts.canary import Arm, Metric
from shared.contracts.chat import GenerationRequest
from shared.jobs.canary_store import Trial, UnitKey
from shared.jobs.records import CaptureRecord

OF_ANSWERS = (Metric.ERRORS, Metric.LATENCY)


class Chosen(NamedTuple):
    """target: answers. shadow: gets a copy. observe: is told how the answer ended. trial: by whose grader both answers are compared, as the
    one observation of user. capture: the share of the alias's chats that is stored."""

    target: Target
    shadow: Target | None = None
    observe: Observer | None = None
    trial: Trial | None = None
    user: UnitKey | None = None
    capture: CaptureRecord | None = None

    @property
    def compares(self) -> bool:
        return self.shadow is not None and self.trial is not None


async def choose(request: Request, context: ProjectContext, body: GenerationRequest, opening: Any) -> Chosen:
    """Raises NotFound."""
    route = await context.model_router.cached(context.project, body.model)
    user = ""
    if route.canary is not None:
        key = route.trial.user_key if route.trial else None
        user = chat.stickiness(body, opening, request.headers.get("x-session-id", ""), key)
    return _of_route(request.app.state.recorder, route, user)._replace(capture=route.capture)


def _of_route(recorder: CanaryRecorder, route: ModelRoute, user: str) -> Chosen:
    if route.canary is None:
        return Chosen(route.main)
    target, shadow = route.choose(user)
    trial = route.trial
    if trial is None or not _wanted(trial, shadow):
        return Chosen(target, shadow)
    counted = recorder.admit(trial, user)
    if counted is None:
        return Chosen(target, shadow)
    if shadow is not None:
        return Chosen(target, shadow, trial=trial, user=counted)
    arm = Arm.SERVED if target is route.main else Arm.CANARY
    return Chosen(target, observe=partial(recorder.answered, trial, counted, arm))


def _wanted(trial: Trial, shadow: Target | None) -> bool:
    return trial.metric is Metric.GRADER if shadow is not None else trial.metric in OF_ANSWERS


def copy(
    request: Request, context: ProjectContext, chosen: Chosen, made: Asked, served: Callable[[], str | None]
) -> None:
    """Send the shadow its copy; returns at once. served: the text that was answered."""
    if chosen.shadow is None:
        return
    state, compare = request.app.state, None
    if chosen.trial is not None and chosen.user is not None:
        compare = _comparing(context, state.recorder, chosen.trial, chosen.user, made, served())
    state.shadows.send(context.project, made.path, made.body, chosen.shadow, compare)


def _comparing(
    context: ProjectContext, recorder: CanaryRecorder, trial: Trial, user: UnitKey, made: Asked, served: str | None
) -> Compare:
    async def compare(answer: bytes) -> None:
        other = chat.first_text(made, answer)
        await pairs.compare(context, recorder, trial, user, chat.question_of(made), served, other)

    return compare
