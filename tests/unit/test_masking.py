"""Keys that come with what copying adds, and secrets in what libraries and providers quote."""

import io
import json
import logging
import sys
from urllib.parse import quote

import pytest

from shared.contracts.errors import ErrorBody, FatalError, as_body
from shared.contracts.masking import BadSecret, checked_secret, masked, of_url, remember, remember_environment
from shared.platform.log import get_logger, set_up_logging

KEY = 'sk-planted/key+with"quote'


@pytest.mark.parametrize("value", ["sk-abc", " sk-abc", "sk-abc\n", "\tsk-abc \r\n", ""])
def test_spaces_and_line_ends_around_a_key_are_no_part_of_it(value: str):
    assert checked_secret("KEY", value) == value.strip()


@pytest.mark.parametrize(
    ("value", "what"), [("sk-a\nbc", "U+000A"), ("sk a", "a space"), ("sk-\u00e4", "U+00E4"), ("sk\x00a", "U+0000")]
)
def test_a_key_that_no_header_carries_is_told_by_its_variable_and_never_shown(value: str, what: str):
    with pytest.raises(BadSecret) as caught:
        checked_secret("TEAM_KEY", value)
    assert what in str(caught.value)
    assert "TEAM_KEY" in str(caught.value)
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://user:pa%40ss@host/v1", ["pa%40ss", "pa@ss"]),
        ("https://token@host/v1", ["token"]),
        ("https://host/v1?key=abcdef&api-version=2024", ["abcdef"]),
        ("https://host/v1?x-api-key=abcdef&sig=ghijkl", ["abcdef", "ghijkl"]),
        ("https://host/v1", []),
        ("https://[broken", []),
    ],
)
def test_secrets_of_a_url(url: str, secrets: list[str]):
    assert of_url(url) == secrets


@pytest.mark.parametrize(
    "quoted",
    [
        KEY,
        repr(f"Bearer {KEY}\n"),
        json.dumps({"k": KEY}),
        quote(KEY),
        quote(KEY, safe=""),
        str(KEY.encode()),
        f"a{KEY}b",
    ],
)
def test_a_secret_is_masked_in_every_form_it_is_quoted_in(quoted: str):
    remember([f"{KEY}\n"])
    shown = masked(f"refused: {quoted}")
    assert "planted" not in shown
    assert "***" in shown


def test_what_the_environment_holds_is_known_by_its_name():
    remember_environment(
        {
            "SOME_API_KEY": "value-of-a-key",
            "TEAM_HEADERS": '{"x-team": "value-of-a-header"}',
            "METEOR_STRONG_PROJECT_TOKENS": "1000000",
            "MAX_KEY": "123456789",
            "DATABASE_URL": "postgresql://meteor:value-of-a-password@db/meteor",
            "PLACE": "value-of-a-place",
        }
    )
    text = "value-of-a-key value-of-a-header value-of-a-password 1000000 123456789 value-of-a-place"
    assert masked(text) == "*** *** *** 1000000 123456789 value-of-a-place"


def test_every_error_and_every_line_of_the_log_is_masked(monkeypatch: pytest.MonkeyPatch):
    remember(["planted-in-a-text"])
    words = "the library said planted-in-a-text"
    assert "planted" not in FatalError(words).message + str(FatalError(words)) + as_body(ValueError(words)).message
    assert "planted" not in ErrorBody(message=words, type="t").model_dump_json()
    for as_json in ("true", "false"):
        monkeypatch.setenv("METEOR_LOG_JSON", as_json)
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        from shared.platform.settings import platform_settings

        platform_settings.cache_clear()
        set_up_logging("test")
        try:
            raise ValueError(words)
        except ValueError as error:
            get_logger("a").error("failed", why=words, exc_info=error)
            logging.getLogger("library").warning("said %s", words, exc_info=error)
        sys.excepthook(ValueError, ValueError(words), None)
        assert "planted" not in stream.getvalue()
        assert stream.getvalue().count("***") >= 4
    platform_settings.cache_clear()
