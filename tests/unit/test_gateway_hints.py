"""When a provider wants to be asked again, as providers say it: one row a way."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from services.strong_model.gateway.hints import RECHECK_S, pause_s

NOW = 1_800_000_000.0  # the clock stands still for these tests
SOON = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=500)
GEMINI = (
    '[{"error": {"code": 429, "message": "You exceeded your current quota. Please retry in 55.3s.", "status": '
    '"RESOURCE_EXHAUSTED", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "55s"}]}}]'
)
TPM = "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. "


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "0.3"}, "", 0.3),
        ({"retry-after": "-3"}, "", 0),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "1m30s"}, "", 90),
        ({"retry-after-ms": "250", "retry-after": "9"}, "", 0.25),
        ({"retry-after": format_datetime(SOON, usegmt=True)}, "", 500),
        ({}, GEMINI, 55),
        ({}, '{"error": {"message": "slow down", "retry_after": 12}}', 12),
        ({}, '{"error": {"metadata": {"retry_after_seconds": 3.5}}}', 3.5),
        ({}, '{"retry_after_ms": 1500}', 1.5),
        ({}, TPM + "Please try again in 9m38s. Visit https://provider.example.", 578),
        ({}, TPM + "Please try again in 1.5s.", 1.5),
        ({}, TPM + "Please try again in 6ms.", 0.006),
        ({}, TPM + "Please try again in 7m12.345s.", 432.345),
        ({}, "Please retry after 30 seconds.", 30),
        ({}, "Requests have exceeded the call rate limit. Please retry after 1 minute and 5 seconds.", 65),
        ({}, "Too many requests, please wait 20 seconds before the next one", 20),
        ({}, "your limit resets in 2 hours", 7200),
        ({}, f"quota used up; it resets at {SOON:%Y-%m-%dT%H:%M:%SZ}", 500),
        ({}, '{"error": {"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "' + str(round((NOW + 500) * 1000)) + '"}}}}', 500),
        ({"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "33011.38"}, "", 33011.38),
        ({}, "rate limit reached", None),
        ({}, "you sent 40 requests in 3 seconds", None),
        ({"x-ratelimit-reset-requests": "8.64s", "x-ratelimit-reset-tokens": "1m0s"}, "", 8.64),
        (
            {
                "x-ratelimit-remaining-requests": "14", "x-ratelimit-reset-requests": "8.64s",
                "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m0s",
            },
            "", 60,
        ),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": f"{SOON:%Y-%m-%dT%H:%M:%SZ}"}, "", 500),
        ({"X-RateLimit-Reset": str(round((NOW + 500) * 1000))}, "", 500),
        ({"x-ratelimit-reset": str(round(NOW + 500))}, "", 500),
        ({"ratelimit-reset": "42"}, "", 42),
    ],
)  # fmt: skip
def test_the_pause_is_read_from_headers_and_words(
    headers: dict[str, str], text: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("services.strong_model.gateway.hints.time.time", lambda: NOW)
    assert pause_s(headers, text) == (
        None if seconds is None else pytest.approx(seconds, abs=1 if seconds == 500 else 1e-3)
    )


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached on tokens per day (TPD): Limit 100000, Used 99999.",
        GEMINI.replace("RESOURCE_EXHAUSTED", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        "daily limit reached",
        "You are using a trial key, which is limited to 1000 API calls / month.",
    ],
)
def test_a_day_s_quota_without_its_end_is_left_alone_for_an_hour_or_until_midnight(text: str):
    left = 86_400 - time.time() % 86_400
    assert pause_s({}, text) == pytest.approx(max(55 if "55s" in text else 0, min(RECHECK_S, left)), abs=60)


def test_a_day_s_quota_with_its_end_is_left_alone_until_then():
    assert pause_s({}, "limit of tokens per day (TPD). Please try again in 5h9m38s.") == 18_578
