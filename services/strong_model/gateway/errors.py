"""What can go wrong with one attempt at a provider, told apart: retried or not, and how it is written down and answered."""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx

from services.strong_model.settings import Provider
from shared.contracts.errors import MeteorError

NEVER, ONCE_MORE, ALWAYS = 1, 2, 1_000  # how often a request that failed in this way may be sent in all
RETRIED = frozenset({408, 409, 425, 429})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
GONE = "http_404"
SHOWN = 300  # characters of a provider's own message that are passed on
HTTP_ERRORS = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


class TeacherFailure(MeteorError):
    """One failed attempt. outcome: its word in the ledger; most_attempts: a bound on sending such a request again.

    connected: False when nobody took the call, so nothing was sent and nothing can have been paid.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        outcome: str,
        most_attempts: int,
        retry_after: float | None = None,
        connected: bool = True,
    ):
        super().__init__(message, code=code, status=status)
        self.outcome = outcome
        self.most_attempts = most_attempts
        self.retry_after = retry_after  # seconds, as the provider asked
        self.connected = connected
        self.free = not connected or outcome.startswith("http_")  # surely nothing was paid
        self.provider_down = outcome in ("timeout", "unreachable") or outcome.startswith("http_5")
        # whether another provider may do better: not where the request or the key is at fault
        self.elsewhere = most_attempts > NEVER or code == "teacher_quota_exhausted"
        self.call_id: str | None = None


def by_http_error(provider: Provider, error: Exception, timeout_s: float, answering: bool) -> "TeacherFailure":
    """One of HTTP_ERRORS, told apart. answering: the head of an answer had come."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return unreachable(provider, error, connected=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return timed_out(provider, timeout_s)
    if answering:
        return bad_answer(provider, f"an answer that broke off ({type(error).__name__})")
    return unreachable(provider, error, connected=True)


def unreachable(provider: Provider, error: Exception, connected: bool) -> TeacherFailure:
    message = (
        f"no connection to provider {provider.name!r} at {provider.base_url} ({type(error).__name__}: {error}); "
        f"is it running, and is {provider.address_from} right?"
    )
    return TeacherFailure(
        message,
        code="teacher_unreachable",
        status=503,
        outcome="unreachable",
        most_attempts=ALWAYS,
        connected=connected,
    )


def resting(provider: Provider, seconds: float, cause: TeacherFailure | None) -> TeacherFailure:
    """Nothing was sent: the provider failed so often in a row that it is left alone for now. cause: how it failed last,
    which is what the caller has to know."""
    message = f"provider {provider.name!r} failed many times in a row and is tried again in {seconds:.0f} s"
    return TeacherFailure(
        f"{message}; the last time: {cause.message}" if cause else message,
        code=(cause and cause.code) or "teacher_resting",
        status=503,
        outcome="unreachable",
        most_attempts=ALWAYS,
        retry_after=seconds,
        connected=False,
    )


def timed_out(provider: Provider, seconds: float) -> TeacherFailure:
    message = f"provider {provider.name!r} gave no whole answer within {seconds:.0f} s"
    return TeacherFailure(message, code="teacher_timeout", status=504, outcome="timeout", most_attempts=ALWAYS)


def bad_answer(provider: Provider, what: str) -> TeacherFailure:
    """The provider answered 200 and the answer is none. It may have been paid for, so it is asked once more at most."""
    message = f"provider {provider.name!r} sent {what}"
    return TeacherFailure(message, code="teacher_bad_answer", status=502, outcome="bad_answer", most_attempts=ONCE_MORE)


def not_json(provider: Provider, payload: bytes) -> TeacherFailure:
    if payload.lstrip()[:1] == b"<":
        hint = f"is {provider.address_from} right (it usually ends in /v1)?"
        return bad_answer(provider, f"an HTML page instead of JSON; {hint}")
    return bad_answer(provider, f"invalid JSON ({len(payload)} bytes)")


def broken_stream(provider: Provider, data: str) -> TeacherFailure:
    """An error that the provider sent in the middle of a stream."""
    message = f"provider {provider.name!r} ended its stream with an error: {_said(provider, data.encode())[0]}"
    return TeacherFailure(message, code="teacher_error", status=502, outcome="bad_answer", most_attempts=ONCE_MORE)


def refused(provider: Provider, status: int, headers: Mapping[str, str], payload: bytes) -> TeacherFailure:
    """An HTTP status other than 200. The key is masked wherever the provider repeats it."""
    said, given_code = _said(provider, payload)
    outcome = f"http_{status}"
    who = f"provider {provider.name!r}"
    if status in (401, 403):
        # the provider's own words are left out: they often quote a part of the key
        message = f"{who} refused the key (HTTP {status}); set {provider.key_from} to one that is valid for it"
        return TeacherFailure(message, code="teacher_auth_failed", status=403, outcome=outcome, most_attempts=NEVER)
    if status == 402 or given_code in QUOTA_CODES:
        message = f"the account at {who} has no credit or quota left: {said}"
        return TeacherFailure(message, code="teacher_quota_exhausted", status=403, outcome=outcome, most_attempts=NEVER)
    if status == 429:
        wait = retry_after_s(headers)
        message = f"{who} limits the rate of calls: {said}"
        return TeacherFailure(
            message,
            code="teacher_rate_limited",
            status=429,
            outcome=outcome,
            most_attempts=ALWAYS,
            retry_after=wait,
        )
    if status >= 500 or status in RETRIED:
        return TeacherFailure(
            f"{who} failed (HTTP {status}): {said}",
            code="teacher_error",
            status=502,
            outcome=outcome,
            most_attempts=ALWAYS,
            retry_after=retry_after_s(headers),
        )
    hint = f"; is {provider.address_from} right?" if status in (404, 405) or status < 400 else ""
    return TeacherFailure(
        f"{who} rejected the request (HTTP {status}): {said}{hint}",
        code="teacher_rejected",
        status=status if status >= 400 else 400,
        outcome=outcome,
        most_attempts=NEVER,
    )


def without_batches(provider: Provider, path: str, status: int) -> TeacherFailure:
    message = f"it has no batch API (HTTP {status} at {provider.base_url}{path})"
    return TeacherFailure(message, code="teacher_rejected", status=400, outcome=GONE, most_attempts=NEVER)


def batch_failed(provider: Provider, why: str | None) -> TeacherFailure:
    """The provider would not have a batch, so none of its calls was computed or paid."""
    message = (
        f"provider {provider.name!r} takes no batch: {why}; leave `batch` out of the job's teacher or judge, "
        "and each call is sent by itself, at the full price"
    )
    return TeacherFailure(message, code="teacher_batch_failed", status=400, outcome="batch_failed", most_attempts=NEVER)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or an HTTP date); None when not said."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        if "retry-after" not in headers:
            return None
        value = headers["retry-after"]
        try:
            return max(0.0, float(value))
        except ValueError:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def masked(provider: Provider, text: str) -> str:
    key = provider.api_key.get_secret_value()
    return text.replace(key, "***") if key else text


def _said(provider: Provider, payload: bytes) -> tuple[str, str | None]:
    """(message, code) of an error body in OpenAI's shape, else the beginning of the text."""
    text = payload.decode(errors="replace")
    try:
        error = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):
        error = "an HTML page" if text.lstrip().startswith("<") else text
    if isinstance(error, dict):
        code = error.get("code") or error.get("type")
        return masked(provider, str(error.get("message")))[:SHOWN], code if isinstance(code, str) else None
    return masked(provider, str(error))[:SHOWN], None
