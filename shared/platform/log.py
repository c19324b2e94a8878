"""One log form for all processes: structlog, to stderr, as key=value lines or JSON."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import Processor

from shared.contracts.masking import masked, remember_environment
from shared.platform.settings import platform_settings

SECRET_WORDS = ("token", "key", "secret", "authorization", "password")


def _redact(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        secret = any(word in name.lower() for word in SECRET_WORDS) and name not in ("key", "step_key")
        if secret and value and not isinstance(value, int | float):  # numbers of tokens are no secrets
            event[name] = "***"
    return event


def _visible(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Texts come from requests and from providers, too: none begins a line of its own or steers the terminal it is read on."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return event


def _without_secrets(_logger: Any, _name: str, line: str) -> str:
    """The whole line, with the texts of exceptions in it."""
    return masked(line)


class _MaskedFormatter(logging.Formatter):
    """For the lines of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _mask_last_words(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """An exception that ends the process."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


class _Patient:
    """A stream that never fails its writer. On a full disk a line of the log must not cost the answer that it is about (the
    standard library's handlers see it the same way); what did not go out stays in the stream's buffer and goes out with the next."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


SERVICE = ["process"]  # the name of this process, such as api or weak_model:weak


def set_up_logging(service: str) -> None:
    remember_environment(os.environ)
    SERVICE[0] = service
    settings = platform_settings()
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(
            colors=False,
            exception_formatter=structlog.dev.plain_traceback,  # the rich one prints locals: slow, and secrets among them
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            _visible,
            structlog.processors.format_exc_info if settings.log_json else structlog.processors.StackInfoRenderer(),
            renderer,
            cast(Processor, _without_secrets),  # behind the renderer events are lines
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Patient(sys.stderr))),
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MaskedFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _mask_last_words


def get_logger(name: str):
    return structlog.get_logger(name)
