"""How an attempt at a provider can fail: the error's code, its HTTP status, its ledger outcome and how often to try again."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from services.strong_model.gateway.hints import pause_s
from services.strong_model.gateway.providers import Provider
from shared.contracts.errors import MeteorError

REFUSED_ROW, TOO_LONG = "teacher_refused_row", "teacher_prompt_too_long"  # codes that concern one request alone
NEVER, ONCE_MORE, ALWAYS = 1, 2, 1_000  # the most attempts at a request that failed in this way
KINDS = {  # code -> (HTTP status of our answer, most attempts)
    "teacher_unreachable": (503, ALWAYS),
    "teacher_resting": (503, ALWAYS),
    "teacher_timeout": (504, ALWAYS),
    "teacher_rate_limited": (429, ALWAYS),
    "teacher_error": (502, ALWAYS),
    "teacher_bad_answer": (502, ONCE_MORE),  # it may have been paid for
    "teacher_auth_failed": (403, NEVER),
    "teacher_quota_exhausted": (403, NEVER),
    "teacher_rejected": (400, NEVER),
    REFUSED_ROW: (400, NEVER),
    TOO_LONG: (400, NEVER),
    "teacher_batch_failed": (400, NEVER),
}
RETRIED = frozenset({408, 409, 425, 429})
QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
OVERLOAD = frozenset({"http_429", "http_503", "http_529"})  # outcomes of a provider that has too many calls
PAUSED = "paused"  # of a call that was not sent, because the provider wants to be left alone
NOT_FOUND = "http_404"
SHOWN = 300  # characters of a provider's own message that are passed on
HTTP_ERRORS = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


class ProviderError(MeteorError):
    """One failed attempt. outcome: its word in the ledger. retry_after: seconds that the provider asked for.

    connected: False when the provider took no connection, so that nothing was sent and nothing paid.
    """

    def __init__(
        self,
        message: str,
        code: str,
        outcome: str,
        *,
        status: int | None = None,
        most_attempts: int | None = None,
        retry_after: float | None = None,
        connected: bool = True,
    ):
        usual_status, usual_attempts = KINDS[code]
        super().__init__(message, code=code, status=status or usual_status)
        self.outcome = outcome
        self.most_attempts = most_attempts or usual_attempts
        self.retry_after = retry_after
        self.connected = connected
        self.unpaid = not connected or outcome.startswith("http_")
        self.limited = code == "teacher_rate_limited"
        self.paused = outcome == PAUSED
        self.overloaded = outcome in OVERLOAD and code != "teacher_quota_exhausted"
        self.provider_down = outcome in ("timeout", "unreachable") or outcome.startswith("http_5")
        # not where the request or the key is at fault
        self.fallback_may_help = self.most_attempts > NEVER or code == "teacher_quota_exhausted"
        self.call_id: str | None = None


class BreakerOpen(ProviderError):
    """The provider failed so often in a row that nothing was sent. cause: its latest failure, whose code the caller gets."""

    def __init__(self, provider: Provider, seconds: float, cause: ProviderError | None):
        message = f"provider {provider.name!r} failed many times in a row and is tried again in {seconds:.0f} s"
        super().__init__(
            f"{message}; the last time: {cause.message}" if cause else message,
            (cause and cause.code) or "teacher_resting",
            "unreachable",
            status=503,
            most_attempts=ALWAYS,
            retry_after=seconds,
            connected=False,
        )


def by_http_error(provider: Provider, error: Exception, timeout_s: float, answering: bool) -> ProviderError:
    """One of HTTP_ERRORS as ours. answering: the head of the answer had arrived."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return unreachable(provider, error, connected=False)
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return timed_out(provider, timeout_s)
    if answering:
        return bad_answer(provider, f"an answer that broke off ({type(error).__name__})")
    return unreachable(provider, error, connected=True)


def unreachable(provider: Provider, error: Exception, connected: bool) -> ProviderError:
    message = (
        f"no connection to provider {provider.name!r} at {provider.base_url} ({type(error).__name__}: {error}); "
        f"is it running, and is {provider.address_from} right?"
    )
    return ProviderError(message, "teacher_unreachable", "unreachable", connected=connected)


def timed_out(provider: Provider, seconds: float) -> ProviderError:
    message = f"provider {provider.name!r} gave no whole answer within {seconds:.0f} s"
    return ProviderError(message, "teacher_timeout", "timeout")


def bad_answer(provider: Provider, what: str) -> ProviderError:
    """The provider answered 200 without a usable completion."""
    return ProviderError(f"provider {provider.name!r} sent {what}", "teacher_bad_answer", "bad_answer")


def not_json(provider: Provider, payload: bytes) -> ProviderError:
    if payload.lstrip()[:1] == b"<":
        hint = f"is {provider.address_from} right (it usually ends in /v1)?"
        return bad_answer(provider, f"an HTML page instead of JSON; {hint}")
    return bad_answer(provider, f"invalid JSON ({len(payload)} bytes)")


def broken_stream(provider: Provider, data: str) -> ProviderError:
    """The provider sent an error in the middle of a stream."""
    text = _message_and_code(provider, data.encode())[0]
    message = f"provider {provider.name!r} ended its stream with an error: {text}"
    return ProviderError(message, "teacher_error", "bad_answer", most_attempts=ONCE_MORE)


def refused(provider: Provider, status: int, headers: Mapping[str, str], payload: bytes) -> ProviderError:
    """An HTTP status other than 200. The provider's key is masked in its message."""
    text, given_code = _message_and_code(provider, payload)
    outcome, who = f"http_{status}", f"provider {provider.name!r}"
    if status in (401, 403):
        # without the provider's text, which often quotes a part of the key
        message = f"{who} refused the key (HTTP {status}); set {provider.key_from} to one that is valid for it"
        return ProviderError(message, "teacher_auth_failed", outcome)
    if status == 402 or given_code in QUOTA_CODES:
        message = f"the account at {who} has no credit or quota left: {text}"
        return ProviderError(message, "teacher_quota_exhausted", outcome)
    if status >= 500 or status in RETRIED:
        limited = status == 429
        message = f"{who} limits the rate of calls: {text}" if limited else f"{who} failed (HTTP {status}): {text}"
        code = "teacher_rate_limited" if limited else "teacher_error"
        return ProviderError(message, code, outcome, retry_after=pause_s(headers, payload.decode(errors="replace")))
    hint = f"; is {provider.address_from} right?" if status in (404, 405) or status < 400 else ""
    message = f"{who} rejected the request (HTTP {status}): {text}{hint}"
    return ProviderError(message, "teacher_rejected", outcome, status=max(status, 400))


def paused(provider: Provider, seconds: float, cause: ProviderError | None) -> ProviderError:
    """Nothing was sent: the provider asked to be left alone for longer than a call waits. cause: its refusal."""
    until = datetime.fromtimestamp(time.time() + seconds, UTC)
    message = f"provider {provider.name!r} limits the rate of calls until {until:%Y-%m-%d %H:%M:%S} UTC"
    words = f"; it said: {cause.message}" if cause else ""
    return ProviderError(message + words, "teacher_rate_limited", PAUSED, retry_after=seconds, connected=False)


def without_batches(provider: Provider, path: str, status: int) -> ProviderError:
    message = f"it has no batch API (HTTP {status} at {provider.base_url}{path})"
    return ProviderError(message, "teacher_rejected", NOT_FOUND)


def batch_failed(provider: Provider, why: str | None) -> ProviderError:
    """The provider refused a batch, so none of its calls was computed or paid."""
    message = (
        f"provider {provider.name!r} takes no batch: {why}; leave `batch` out of the job's teacher or judge, "
        "and each call is sent by itself, at the full price"
    )
    return ProviderError(message, "teacher_batch_failed", "batch_failed")


def _message_and_code(provider: Provider, payload: bytes) -> tuple[str, str | None]:
    """Those of an error body in OpenAI's shape, else the beginning of the text. The key is masked."""
    text, code = payload.decode(errors="replace"), None
    try:
        error = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):
        error = "an HTML page" if text.lstrip().startswith("<") else text
    if isinstance(error, dict):
        code = error.get("code") or error.get("type")
        error = error.get("message")
    key = provider.api_key.get_secret_value()
    message = str(error).replace(key, "***") if key else str(error)
    return message[:SHOWN], code if isinstance(code, str) else None
