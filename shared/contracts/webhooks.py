"""Webhooks: who is told of what happens to jobs, canaries and recipes, as OpenAI's client makes and reads them."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from shared.contracts.distillation import Strict
from shared.contracts.errors import BudgetExceeded
from shared.contracts.json_types import Json, Switch
from shared.contracts.keys import Title

LONGEST_URL = 2000
URL_TEXT = re.compile(r"[\x21-\x7e]+")
HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?|[0-9a-f:.]+", re.IGNORECASE)
LAST_IS_A_NUMBER = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$", re.IGNORECASE)
DOTTED = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
WEB_PORTS, FIRST_FREE_PORT = (80, 443), 1024


class WebhookEvent(StrEnum):
    """The first three are OpenAI's."""

    SUCCEEDED = "fine_tuning.job.succeeded"
    FAILED = "fine_tuning.job.failed"
    CANCELLED = "fine_tuning.job.cancelled"
    PAUSED = "distillation.job.paused"
    ROUND = "distillation.round.completed"
    BUDGET = "distillation.budget.exceeded"
    CANARY_RETURNED = "model.canary.returned"
    CANARY_PROMOTED = "model.canary.promoted"
    CANARY_PASSED = "model.canary.passed"
    CANARY_UNDECIDED = "model.canary.undecided"
    RECIPE_FAILED = "recipe.run.failed"


OF_STATUS = {
    "succeeded": WebhookEvent.SUCCEEDED,
    "failed": WebhookEvent.FAILED,
    "cancelled": WebhookEvent.CANCELLED,
    "paused": WebhookEvent.PAUSED,
}


def events_of(type: str, data: Mapping[str, Any] | None, error_code: str | None) -> list[WebhookEvent]:
    """What webhooks are told when a job has an event of this type with this data. error_code: of a failed job."""
    data = data or {}
    events = []
    if type == "status" and data.get("status") in OF_STATUS:
        events.append(OF_STATUS[data["status"]])
    of_budget = data.get("code") if type == "budget" else error_code if WebhookEvent.FAILED in events else None
    if of_budget == BudgetExceeded.code:
        events.append(WebhookEvent.BUDGET)
    if type == "metrics" and data.get("completed") and "round" in data:
        events.append(WebhookEvent.ROUND)
    return events


def checked_url(url: str) -> str:
    """An address that says plainly where it leads. What a name leads to is checked when it is connected to."""
    if not URL_TEXT.fullmatch(url):
        raise ValueError("write it in printable ASCII without blanks; names in other scripts as xn--...")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http"):
        raise ValueError("begin it with https:// or http://")
    if "@" in parts.netloc or "\\" in url:
        raise ValueError("no user name or password in it, and no backslash; what is sent is signed")
    if parts.fragment:
        raise ValueError("leave out what begins with #; it is never sent")
    if not HOST.fullmatch(parts.hostname or ""):
        raise ValueError("the host is no name and no address")
    if LAST_IS_A_NUMBER.search(parts.hostname or "") and not DOTTED.fullmatch(parts.hostname or ""):
        raise ValueError("write the address as four decimal numbers")
    if parts.port is not None and parts.port not in WEB_PORTS and parts.port < FIRST_FREE_PORT:
        raise ValueError("the port must be 80, 443, or at least 1024")
    return url


Url = Annotated[str, Field(max_length=LONGEST_URL), AfterValidator(checked_url)]


def each_once(types: list[WebhookEvent]) -> list[WebhookEvent]:
    return sorted(set(types))


EventTypes = Annotated[list[WebhookEvent], Field(min_length=1, max_length=20), AfterValidator(each_once)]


class JobWebhook(Strict):
    """Who is told of one job alone. It is signed with a secret that the answer to the job's POST shows."""

    url: Url
    event_types: EventTypes = sorted(WebhookEvent)


class WebhookRequest(JobWebhook):
    """Body of POST /v1/webhooks. event_types: all where it is left out."""

    name: Title = "webhook"


class WebhookChange(Strict):
    """Body of PATCH /v1/webhooks/{id}; what is left out stays. disabled false: also one that answered 410 is told again."""

    name: Title | None = None
    url: Url | None = None
    event_types: EventTypes | None = None
    disabled: Switch | None = None


class WebhookTest(Strict):
    """Body of POST /v1/webhooks/{id}/test."""

    event_type: WebhookEvent = WebhookEvent.SUCCEEDED


class WebhookRotation(Strict):
    """Body of POST /v1/webhooks/{id}/rotate_secret."""

    keep_old_secret_active_for_24_hours: Switch = False


class WebhookObject(BaseModel):
    """A `webhook_endpoint` without its secret. job_id: the job that it belongs to; null: all jobs of the project."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str
    job_id: str | None = None
    disabled: bool = False
    disabled_reason: str | None = None


class NewWebhook(WebhookObject):
    """The answers to POST and to rotate_secret, the only ones with the secret. null: the answer to a POST with an
    Idempotency-Key, which is kept; rotate_secret gives one."""

    signing_secret: str | None


class WebhookTestResult(BaseModel):
    """status_code: what the endpoint answered."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class DeliveryAttempt(BaseModel):
    """at: Unix seconds. status: of the answer; error: why there was none. seconds: how long it took."""

    at: float
    status: int | None = None
    error: str | None = None
    seconds: float


class DeliveryObject(BaseModel):
    """One event on its way to one endpoint; `id` is its `webhook-id`. log: the newest attempts. job_id: null for what is of no job. payload: the body that is sent.

    state: pending, delivered or failed. next_attempt_at: null when there will be none.
    """

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_id: str
    job_id: str | None = None
    event_type: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    last_status: int | None = None
    created_at: int
    finished_at: int | None = None
    next_attempt_at: int | None = None
    log: list[DeliveryAttempt]
    payload: Json
