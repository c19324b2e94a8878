"""What is wrong with a canary's request beyond the types of its fields."""

import time
from collections.abc import Iterator
from itertools import pairwise

from services.api.context import ProjectContext
from services.api.features.graders.unfit import unfit, unknown_models
from shared.contracts.canary import CanaryGoal, CanaryTerms, Metric
from shared.contracts.grader_kinds import Grader, reads_reference
from shared.contracts.problems import Problem

LONGEST_S = 366 * 24 * 3600
GRADERS = (
    "name one that reads the answer alone, or templates over item.question and sample: string_check, text_similarity, json_schema with a "
    "schema, python, endpoint, score_model, label_model"
)


def problems_of(context: ProjectContext, request: CanaryTerms) -> Iterator[Problem]:
    if request.goal is None:
        yield from _without_a_goal(request)
        return
    yield from _of_shares(request, request.goal)
    yield from _of_metric(context, request.goal)
    yield from _of_end(request, request.goal)


def _wrong(param: str, message: str, remedy: str, code: str = "invalid_value") -> Problem:
    return Problem(code=code, param=param, message=f"{param}: {message}", remedy=remedy)


def _without_a_goal(request: CanaryTerms) -> Iterator[Problem]:
    for name in ("steps", "promote"):
        if getattr(request, name):
            yield _wrong(name, "only a canary with a goal decides by itself", f"add a goal, or leave {name} out")
    if request.percent is None:
        yield _wrong("percent", "a canary without a goal needs it", "say how many percent of conversations", MISSING)


MISSING = "missing_required_parameter"


def _of_shares(request: CanaryTerms, goal: CanaryGoal) -> Iterator[Problem]:
    copies, shares = goal.metric is Metric.GRADER, request.shares
    if copies and not request.shadow:
        yield _wrong("shadow", "metric grader compares two answers to one question", "set shadow to true")
    if request.shadow and not copies:
        yield _wrong(
            "shadow",
            f"metric {goal.metric.value} compares answers that users get, and nobody gets a shadow's",
            "set shadow to false",
        )
    if request.shadow and request.steps is not None:
        yield _wrong("steps", "a shadow takes no share of the users", "give percent, the share of copies")
    elif request.steps is not None and request.percent is not None:
        yield _wrong("steps", "percent stands beside it", "give steps or percent, not both")
    if any(later <= earlier for earlier, later in pairwise(shares)):
        yield _wrong("steps", "they must rise", "give each percentage once, the smallest first")
    first = "percent" if request.steps is None else "steps.0"
    if shares[0] <= 0:
        yield _wrong(first, "no conversation reaches the canary", "give a percentage above 0")
    if shares[0] >= 100 and not request.shadow:
        yield _wrong(first, "no answer of the served version is left to compare with", "begin with less than 100")


def _of_metric(context: ProjectContext, goal: CanaryGoal) -> Iterator[Problem]:
    for name, metric in (("limit_ms", Metric.LATENCY), ("grader", Metric.GRADER)):
        given, wanted = getattr(goal, name) is not None, goal.metric is metric
        if wanted and not given:
            yield _wrong(f"goal.{name}", f"metric {metric.value} needs it", f"add {name}", MISSING)
        if given and not wanted:
            yield _wrong(
                f"goal.{name}", f"it belongs to metric {metric.value}", f"leave {name} out, or change the metric"
            )
    if goal.grader is None:
        return
    if reads_reference(goal.grader):
        yield _wrong("goal.grader", "served questions have no reference to grade against", GRADERS)
    elif not isinstance(goal.grader, Grader):
        yield from unfit(context, "goal.grader", goal.grader)
        yield from unknown_models(context, "goal.grader", goal.grader)


def _of_end(request: CanaryTerms, goal: CanaryGoal) -> Iterator[Problem]:
    compared = sum(share < 100 or request.shadow for share in request.shares)
    if goal.max_requests is not None and goal.max_requests < goal.min_requests * compared:
        yield _wrong(
            "goal.max_requests",
            f"{compared} steps of at least {goal.min_requests} answers need {goal.min_requests * compared}",
            "raise max_requests, or lower min_requests",
        )
    if goal.until is not None and not time.time() < goal.until < time.time() + LONGEST_S:
        yield _wrong("goal.until", "it must lie in the future, at most a year ahead", "give Unix seconds")
