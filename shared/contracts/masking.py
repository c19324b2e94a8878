"""Secrets that this process knows, and texts without them.

Errors, log lines, events and the ledger's rows pass through `masked`: what a library or a provider quotes may hold a key.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "***"
LEAST = 6  # a shorter value is no secret, and would be found in ordinary words
SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|HEADERS|SIGNATURE|SIG)$", re.IGNORECASE)
URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_known: set[str] = set()


class BadSecret(ValueError):
    """The message names the variable and never shows the value."""


def checked_secret(variable: str, value: str) -> str:
    """The value without the spaces and line ends around it, which come with copying. Raises BadSecret for one that no HTTP header
    can carry."""
    value = value.strip()
    for place, letter in enumerate(value, start=1):
        if not "\x20" < letter < "\x7f":
            what = "a space" if letter == " " else f"the character U+{ord(letter):04X}"
            raise BadSecret(
                f"{variable} holds {what} at place {place} of {len(value)}; a key is one word of ASCII letters"
            )
    return value


def remember(values: Iterable[str]) -> None:
    """Mask these from now on, in whichever form they are quoted."""
    before = len(_known)
    for value in values:
        for line in {value, value.strip(), *value.split()}:
            if len(line) >= LEAST:
                _known.update({line, quote(line), quote(line, safe=""), json.dumps(line)[1:-1], repr(line)[1:-1]})
    if len(_known) > before:
        _pattern.cache_clear()


def remember_environment(environment: Mapping[str, str]) -> None:
    """Values of variables whose name says that they are secret, and what is secret in the URLs of all others."""
    for name, value in environment.items():
        if SECRET_NAME.search(name) and not value.isdigit():
            remember([value, *_strings(value)] if value.startswith("{") else [value])
        for url in URL.findall(value):
            remember(of_url(url))


def of_url(url: str) -> list[str]:
    """Password, and values of the query whose name says that they are secret."""
    try:
        parts = urlsplit(url)
        password, user = parts.password, parts.username
    except ValueError:
        return []
    secrets = [password, unquote(password)] if password else [user] if user else []
    return secrets + [value for name, value in parse_qsl(parts.query) if SECRET_NAME.search(name)]


def masked(text: str) -> str:
    return _pattern().sub(MASK, text) if _known and text else text


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(secret) for secret in sorted(_known, key=len, reverse=True)))


def _strings(text: str) -> list[str]:
    """The values of a JSON object, such as the headers of a provider."""
    try:
        return [value for value in json.loads(text).values() if isinstance(value, str)]
    except (ValueError, AttributeError):
        return []
