"""How an attempt at a provider can fail: the error's code, its HTTP status, its ledger outcome and how often to try again."""

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import httpx

from services.strong_model.gateway import said
from services.strong_model.gateway.failure_words import (
    ACCESS_CODES,
    BAD_KEY,
    BAD_TURN,
    CONTENT,
    CONTENT_CODES,
    CONTEXT_FULL,
    DEMANDS,
    KEY_CODES,
    KEY_REFUSED,
    MODEL_CODES,
    NO_ACCESS,
    NO_MODEL,
    NO_MONEY,
    PASSING,
    QUOTA_CODES,
    QUOTED_KEY,
    RATE_CODES,
    STATUS_OF,
    TOO_LONG,
    TOO_LONG_CODES,
    TOO_MUCH_AT_ONCE,
    TOO_OFTEN,
)
from services.strong_model.gateway.hints import pause_s
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.said import Said
from shared.contracts.errors import ROW_CODES, MeteorError
from shared.ledger.store import Cost
from shared.platform.http_client import Fault, fault_of

REFUSED_ROW = "teacher_refused_row"
NEVER, ONCE_MORE, ALWAYS = 1, 2, 1_000  # the most attempts at a request that failed in this way
KINDS = {  # code -> (HTTP status of our answer, most attempts)
    "teacher_unreachable": (503, ALWAYS),
    "teacher_resting": (503, ALWAYS),
    "teacher_timeout": (504, NEVER),  # it may still be computed and be paid for
    "teacher_rate_limited": (429, ALWAYS),
    "teacher_error": (502, ALWAYS),
    "teacher_bad_answer": (502, ONCE_MORE),  # it may have been paid for
    "teacher_auth_failed": (403, NEVER),
    "teacher_quota_exhausted": (403, NEVER),
    "teacher_access_denied": (403, NEVER),
    "teacher_model_not_found": (404, NEVER),
    "teacher_misconfigured": (502, NEVER),
    "teacher_rejected": (400, NEVER),
    REFUSED_ROW: (400, NEVER),
    "teacher_prompt_too_long": (400, NEVER),
    "teacher_batch_failed": (400, NEVER),
}
RETRIED = frozenset({408, 409, 425, 429})
ACCOUNT_CODES = frozenset(
    {
        "teacher_auth_failed",
        "teacher_quota_exhausted",
        "teacher_access_denied",
        "teacher_model_not_found",
        "teacher_misconfigured",
        "teacher_rejected",
        "teacher_batch_failed",
    }
)
MEANINGS = {  # what an error's message says the provider did
    "teacher_auth_failed": "refused the key",
    "teacher_access_denied": "denies this account access",
    "teacher_quota_exhausted": "has no credit or quota left for this account",
    "teacher_model_not_found": "does not have the model",
    "teacher_refused_row": "refused the content of a request",
    "teacher_prompt_too_long": "takes no request of this length",
    "teacher_rejected": "rejected the request",
}
FAULTS: dict[Fault, str] = {
    "certificate": "its certificate is not trusted ({error}); METEOR_CA_BUNDLE names further certificates to trust",
    "tls": "no encrypted connection comes about ({error}); does {setting} say https:// for a server that speaks http://?",
    "name": "no such host is known ({error}); is {setting} right?",
    "proxy": "the proxy of HTTPS_PROXY or HTTP_PROXY refuses the connection ({error}); NO_PROXY takes hosts that need none",
}
Scope = Literal["row", "provider", "account"]
OVERLOAD = frozenset({"http_429", "http_503", "http_529"})  # outcomes of a provider that has too many calls
MAY_RUN = frozenset({"http_504", "http_524"})  # of what gave up before the model that may still compute
PAUSED = "paused"  # of a call that was not sent, because the provider wants to be left alone
NOT_FOUND = "http_404"
ABSENT = frozenset({404, 405, 501})  # a route that the provider does not have
NO_ROUTE = frozenset(f"http_{status}" for status in ABSENT)
ERROR_BYTES = 65_536  # of an error's body; the rest says nothing more
SHOWN = 300  # characters of a provider's own message that are passed on
HTTP_ERRORS = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


class ProviderError(MeteorError):
    """One failed attempt. outcome: its word in the ledger. retry_after: seconds that the provider asked for.

    connected: False when the provider took no connection, so that nothing was sent and nothing paid. said: its own words.
    cost: what it counted all the same; None where that is unknown.
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
        said: Said | None = None,
        cost: Cost | None = None,
    ):
        usual_status, usual_attempts = KINDS[code]
        super().__init__(message, code=code, status=status or usual_status)
        self.outcome = outcome
        self.most_attempts = most_attempts or usual_attempts
        self.retry_after = retry_after
        self.connected = connected
        self.said = said
        self.words = ""  # what the provider said, short and masked
        self.unpaid = not connected or (outcome.startswith("http_") and outcome not in MAY_RUN)
        self.limited = code == "teacher_rate_limited"
        self.paused = outcome == PAUSED
        self.cost = Cost() if self.unpaid else cost
        self.overloaded = outcome in OVERLOAD and code != "teacher_quota_exhausted"
        down = outcome in ("timeout", "unreachable") or outcome.startswith("http_5")
        self.provider_down = down and code not in ROW_CODES
        # not where the request or the key is at fault
        self.fallback_may_help = self.most_attempts > NEVER or code in ("teacher_quota_exhausted", "teacher_timeout")
        self.call_id: str | None = None

    @property
    def scope(self) -> Scope:
        """Who is at fault: this request alone, the provider for now, or the account (then every request fails)."""
        if self.code in ROW_CODES:
            return "row"
        return "account" if self.code in ACCOUNT_CODES else "provider"

    def of_this_request(self) -> "ProviderError":
        """The same as a fault of this request alone: requests with the same parameters were accepted."""
        code = "teacher_refused_row" if self.code == "teacher_rejected" else self.code
        return self if code == self.code else ProviderError(self.message, code, self.outcome, said=self.said)


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


class Limits(NamedTuple):
    """Of one attempt, in seconds. silence_s: without a byte."""

    total_s: float
    silence_s: float


def by_http_error(provider: Provider, error: Exception, limits: Limits, answering: bool) -> ProviderError:
    """One of HTTP_ERRORS as ours. answering: the head of the answer had arrived."""
    if fault := fault_of(error):
        return misconfigured(provider, FAULTS[fault].format(error=error, setting=provider.address_from))
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return unreachable(provider, error, connected=False)
    if isinstance(error, httpx.ReadTimeout):
        return _too_slow(provider, f"sent nothing for {limits.silence_s:.0f} s", "METEOR_STRONG_SILENCE_TIMEOUT")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return timed_out(provider, limits.total_s)
    if answering:
        return bad_answer(provider, f"an answer that broke off ({type(error).__name__})")
    return unreachable(provider, error, connected=True)


def misconfigured(
    provider: Provider, what: str, outcome: str = "misconfigured", connected: bool = False
) -> ProviderError:
    """No request will ever arrive there, or no answer be read."""
    message = f"provider {provider.name!r} at {provider.base_url}: {what}"
    return ProviderError(message, "teacher_misconfigured", outcome, connected=connected)


def redirected(provider: Provider, status: int, headers: Mapping[str, str]) -> ProviderError:
    to = headers.get("location", "").partition("?")[0].removesuffix("/chat/completions").removesuffix("/models")
    where = f"to {to}; set {provider.address_from} to that address" if to else f"; is {provider.address_from} right?"
    return misconfigured(provider, f"it sends requests on (HTTP {status}) {where}", f"http_{status}")


def encoded(provider: Provider, name: str) -> ProviderError:
    """A compression that was not asked for and cannot be undone here."""
    what = f"its answer is compressed as {name!r}, which was not asked for; is there something between it and us?"
    return misconfigured(provider, what, "bad_answer", connected=True)


def unreachable(provider: Provider, error: Exception, connected: bool) -> ProviderError:
    message = (
        f"no connection to provider {provider.name!r} at {provider.base_url} ({type(error).__name__}: {error}); "
        f"is it running, and is {provider.address_from} right?"
    )
    return ProviderError(message, "teacher_unreachable", "unreachable", connected=connected)


def timed_out(provider: Provider, seconds: float) -> ProviderError:
    return _too_slow(provider, f"gave no whole answer within {seconds:.0f} s", "METEOR_STRONG_ATTEMPT_TIMEOUT")


def _too_slow(provider: Provider, what: str, setting: str) -> ProviderError:
    message = (
        f"provider {provider.name!r} {what}; the request may still be computed and be paid for, so it is not sent again "
        f"now. Raise {setting} if its model thinks for longer"
    )
    return ProviderError(message, "teacher_timeout", "timeout")


def bad_answer(provider: Provider, what: str) -> ProviderError:
    """The provider answered 200 without a usable completion."""
    return ProviderError(f"provider {provider.name!r} sent {what}", "teacher_bad_answer", "bad_answer")


def broken_off(provider: Provider, reason: str) -> ProviderError:
    """The provider ended its answer for a fault of its own. It may be paid for."""
    message = f"provider {provider.name!r} broke its answer off (finish_reason {reason})"
    return ProviderError(message, "teacher_error", "bad_answer", most_attempts=ONCE_MORE)


def blocked_prompt(provider: Provider, why: str, cost: Cost | None) -> ProviderError:
    """An answer without a choice, which some providers give to a prompt that their filter stops."""
    message = (
        f"provider {provider.name!r} refused the content of a request: it answered without a choice {why}".rstrip()
    )
    return ProviderError(message, "teacher_refused_row", "filtered", cost=cost)


def not_json(provider: Provider, payload: bytes) -> ProviderError:
    if payload.lstrip()[:1] == b"<":
        hint = f"is {provider.address_from} right (it usually ends in /v1)?"
        return bad_answer(provider, f"{said.read(payload[:ERROR_BYTES]).message} instead of JSON; {hint}")
    return bad_answer(provider, f"invalid JSON ({len(payload)} bytes)")


def broken_stream(provider: Provider, data: str) -> ProviderError:
    """The provider sent an error in the middle of a stream, after parts of the answer."""
    words = said.read(data)
    message = f"provider {provider.name!r} ended its stream with an error: {shown(provider, words)}"
    if (code := _code(400, words)) in ROW_CODES:
        return ProviderError(message, code, "filtered")
    return ProviderError(message, "teacher_error", "bad_answer", most_attempts=ONCE_MORE)


def in_answer(provider: Provider, body: object) -> ProviderError:
    """An error that came with HTTP status 200. Its own code says which one it is."""
    words = said.of(body)
    status = words.status or next((STATUS_OF[code] for code in words.codes if code in STATUS_OF), None)
    if status is None:  # its words alone say what it is
        status = 400 if _code(400, words) != "teacher_rejected" else 502
    return told(provider, status, pause_s({}, json.dumps(body)), words)


def refused(provider: Provider, status: int, headers: Mapping[str, str], payload: bytes) -> ProviderError:
    """An HTTP status other than 200. The provider's key is masked in its message."""
    if 300 <= status < 400:
        return redirected(provider, status, headers)
    return told(provider, status, pause_s(headers, payload.decode(errors="replace")), said.read(payload))


def told(provider: Provider, status: int, retry_after: float | None, words: Said) -> ProviderError:
    """What the status and the provider's words mean, with the setting to change."""
    text, who = shown(provider, words), f"provider {provider.name!r}"
    code = _code(status, words)
    if code == "teacher_rate_limited":
        message = f"{who} limits the rate of calls: {text}"
    elif code == "teacher_error":
        message = f"{who} failed (HTTP {status}): {text}"
    else:
        message = f"{who} {MEANINGS[code]} (HTTP {status}): {text}{_hint(provider, code, status, words)}"
    runs = f"http_{status}" in MAY_RUN and code == "teacher_error"
    message += "; the request may still be computed and be paid for, so it is sent once more at most" if runs else ""
    own_status = max(status, 400) if code in ("teacher_rejected", "teacher_model_not_found") else None
    failure = ProviderError(
        message,
        code,
        f"http_{status}",
        status=own_status,
        retry_after=retry_after,
        said=words,
        most_attempts=ONCE_MORE if runs else None,
    )
    failure.words = text
    return failure


def _code(status: int, words: Said) -> str:
    text, codes = words.message.lower(), words.codes
    if status == 401:
        return "teacher_auth_failed"
    if status == 402 or codes & QUOTA_CODES or (status in (*DEMANDS, 429) and NO_MONEY.search(text)):
        return "teacher_quota_exhausted"
    if codes & TOO_LONG_CODES or (status >= 500 and CONTEXT_FULL.search(text)):
        return "teacher_prompt_too_long"
    if status == 429:
        return "teacher_prompt_too_long" if TOO_MUCH_AT_ONCE.search(text) else "teacher_rate_limited"
    if status >= 500 or status in RETRIED:
        return "teacher_error"
    if status == 413 or TOO_LONG.search(text):
        return "teacher_prompt_too_long"
    if codes & CONTENT_CODES or CONTENT.search(text):
        return REFUSED_ROW
    return _demand(status, text, codes) if status in DEMANDS else "teacher_rejected"


def _demand(status: int, text: str, codes: frozenset[str]) -> str:
    """A refusal whose words say what is wrong with the request or the account."""
    if codes & RATE_CODES or TOO_OFTEN.search(text):
        return "teacher_rate_limited"
    if codes & KEY_CODES or BAD_KEY.search(text):
        return "teacher_auth_failed"
    if codes & ACCESS_CODES or NO_ACCESS.search(text):
        return "teacher_access_denied"
    if codes & MODEL_CODES or NO_MODEL.search(text):
        return "teacher_model_not_found" if status != 403 else "teacher_access_denied"
    if status == 403:
        return "teacher_auth_failed" if KEY_REFUSED.search(text) else "teacher_access_denied"
    if PASSING.search(text):
        return "teacher_error"
    return REFUSED_ROW if BAD_TURN.search(text) else "teacher_rejected"


def _hint(provider: Provider, code: str, status: int, words: Said) -> str:
    if code == "teacher_auth_failed":
        return f"; set {provider.key_from} to one that is valid for it"
    if code == "teacher_access_denied":
        return f"; ask for access there, or name another model in {provider.setting('model')}"
    if code == "teacher_model_not_found":
        return f"; are {provider.setting('model')} ({provider.model!r}) and {provider.address_from} right?"
    if code == "teacher_prompt_too_long":
        return "; give shorter texts, or a model with a larger context"
    if code != "teacher_rejected":
        return ""
    if status in (404, 405) or status < 400:
        return f"; is {provider.address_from} right?"
    if provider.reasoning_effort and re.search(r"effort|reasoning|thinking", words.message.lower()):
        return f"; change {provider.setting('reasoning_effort')} ({provider.reasoning_effort!r})"
    return f"; {provider.setting('omit')} and {provider.setting('extra')} change what is sent"


def shown(provider: Provider, words: Said) -> str:
    """Its words, short, and without the key or a part of it that the provider quotes."""
    return masked(provider, words.message)[:SHOWN]


def masked(provider: Provider, text: str) -> str:
    for secret in provider.secrets():
        text = text.replace(secret, "***")
        text = (
            re.sub(rf"\S*(?:{re.escape(secret[:6])}|{re.escape(secret[-4:])})\S*", "***", text)
            if len(secret) > 11
            else text
        )
    return QUOTED_KEY.sub("***", text)


def paused(provider: Provider, seconds: float, cause: ProviderError | None) -> ProviderError:
    """Nothing was sent: the provider asked to be left alone for longer than a call waits. cause: its refusal."""
    until = datetime.fromtimestamp(time.time() + seconds, UTC)
    message = f"provider {provider.name!r} limits the rate of calls until {until:%Y-%m-%d %H:%M:%S} UTC"
    words = f"; it said: {cause.message}" if cause else ""
    return ProviderError(message + words, "teacher_rate_limited", PAUSED, retry_after=seconds, connected=False)


def without_batches(provider: Provider, path: str, status: int) -> ProviderError:
    message = f"it has no batch API (HTTP {status} at {provider.base_url}{path})"
    return ProviderError(message, "teacher_rejected", f"http_{status}")


def batch_failed(provider: Provider, why: str | None) -> ProviderError:
    """The provider refused a batch, so none of its calls was computed or paid."""
    message = (
        f"provider {provider.name!r} takes no batch: {why}; leave `batch` out of the job's teacher or judge, "
        "and each call is sent by itself, at the full price"
    )
    return ProviderError(message, "teacher_batch_failed", "batch_failed")
