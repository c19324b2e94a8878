"""A version that is tried beside the one that its alias serves: POST|GET|DELETE /v1/models/{alias}/canary.

With a goal the canary decides by itself: its losses are compared with the served version's, and it returns, goes on or is promoted.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field

from shared.contracts.grader_kinds import GivenGrader
from shared.contracts.json_types import Number, Switch, Whole
from shared.contracts.strict import NO_NUL, Strict

STEPS = (5.0, 25.0, 50.0)
MOST_STEPS = 10


class Metric(StrEnum):
    """Each is a loss between 0 and 1. errors: answers that failed. latency_ms: answers that failed or took longer than `limit_ms`.
    feedback: thumbs down, of those that stored chats got. grader: 1 less the score of the answer to a copied question."""

    ERRORS = "errors"
    LATENCY = "latency_ms"
    FEEDBACK = "feedback"
    GRADER = "grader"


class Per(StrEnum):
    """What is one observation. user: the first answer in a step of each user (`user`, the header x-session-id, `safety_identifier`, or the
    conversation's beginning), whose further answers tend to end alike. answer: one answer a minute of each user."""

    USER = "user"
    ANSWER = "answer"


class CanaryGoal(Strict):
    """What is compared, and when it is decided.

    per: what is counted. user_key: the key of a request's `metadata` that names its user; it goes before `user`. margin: a loss that is
    larger by this much is no harm yet. alpha: chance that a version without harm returns. min_requests: observations of each version before
    a step ends. max_requests: observations of the canary at which the last step ends, and until (Unix seconds): when it ends; without both
    it ends at min_requests.
    """

    metric: Metric
    limit_ms: Number | None = Field(
        default=None, gt=0, le=3_600_000, description="of latency_ms: a slower answer counts"
    )
    grader: GivenGrader | None = Field(default=None, description="of grader: one that needs no reference")
    per: Per = Per.USER
    user_key: str | None = Field(default=None, min_length=1, max_length=64, pattern=NO_NUL)
    margin: Number = Field(default=0.0, ge=0, lt=1)
    alpha: Number = Field(default=0.05, gt=0, le=0.5)
    min_requests: Whole = Field(default=100, ge=1, le=10**9)
    max_requests: Whole | None = Field(default=None, ge=1, le=10**9)
    until: Whole | None = None


class CanaryTerms(Strict):
    """percent: of conversations; they go to the version or, with shadow, are answered by the served one and copied to it.

    With a goal the canary decides by itself. steps: rising percentages that replace `percent`; 100 may be the last, at which nothing is
    compared any more. promote: whether the alias moves to the version that did no harm.
    """

    percent: Number | None = Field(default=None, ge=0, le=100)
    shadow: Switch = False
    goal: CanaryGoal | None = None
    steps: list[Annotated[Number, Field(gt=0, le=100)]] | None = Field(
        default=None, min_length=1, max_length=MOST_STEPS, description="with a goal; without percent: 5, 25, 50"
    )
    promote: Switch = False

    @property
    def shares(self) -> list[float]:
        """The percentages, one after the other."""
        if self.steps is not None:
            return list(self.steps)
        if self.percent is not None:
            return [self.percent]
        return [100.0] if self.shadow else list(STEPS)

    @property
    def rule(self) -> "CanaryRule | None":
        """None without a goal."""
        return None if self.goal is None else CanaryRule(goal=self.goal, steps=self.shares, promote=self.promote)


class CanaryRequest(CanaryTerms):
    """Body of POST /v1/models/{alias}/canary: the version that is tried, and how."""

    version: Whole = Field(ge=1, le=2**31 - 1)


class CanaryRule(BaseModel):
    """How a canary decides, as it is stored."""

    goal: CanaryGoal
    steps: list[float]
    promote: bool


class Outcome(StrEnum):
    """harm: the version returned. gain: its loss is smaller. no_harm: the last step ended, and no harm was seen. undecided: the time was
    over before the last step had enough answers."""

    HARM = "harm"
    GAIN = "gain"
    NO_HARM = "no_harm"
    UNDECIDED = "undecided"


class Arm(StrEnum):
    """Whose answers a count is of. worse, better: of pairs of answers to one question, by how much the canary's loss is larger or
    smaller. ungraded: pairs without a score."""

    SERVED = "served"
    CANARY = "canary"
    WORSE = "worse"
    BETTER = "better"
    UNGRADED = "ungraded"


class ArmStanding(BaseModel):
    """requests: observations that were counted, of users or of answers. loss: their mean loss; null without any."""

    requests: int
    loss: float | None


class CanaryStanding(BaseModel):
    """Where a canary with a goal stands. step: the present one, from 1.

    difference: the mean loss of the canary less that of the served version, over the periods in which both answered. low, high: its
    confidence sequence at level 1 - alpha, which holds at all times together. harm, gain: the evidence, from 0 to 1 and more; at 1 it is
    enough. ungraded: pairs that the grader could not grade.
    """

    step: int
    served: ArmStanding
    canary: ArmStanding
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    harm: float = 0.0
    gain: float = 0.0
    ungraded: int = 0
    outcome: Outcome | None = None


class Count(NamedTuple):
    """Observations of an arm in a step (from 0), and the sum of their losses."""

    step: int
    arm: Arm
    n: float
    loss: float


@dataclass(frozen=True)
class Verdict:
    """advance: the next step begins. outcome: the canary has decided. Neither: it goes on."""

    standing: CanaryStanding
    advance: bool = False
    outcome: Outcome | None = None


class CanaryObject(BaseModel):
    """served: the version that answers the rest. goal, steps, promote, standing: of a canary that decides by itself."""

    id: str
    object: Literal["model.canary"] = "model.canary"
    alias: str
    served: int
    version: int
    percent: float
    shadow: bool
    created_at: int
    goal: CanaryGoal | None = None
    steps: list[float] | None = None
    promote: bool = False
    standing: CanaryStanding | None = None


class CanaryDeleted(BaseModel):
    id: str
    object: Literal["model.canary.deleted"] = "model.canary.deleted"
    deleted: bool = True
