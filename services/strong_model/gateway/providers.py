"""The configured strong models: METEOR_TEACHER_*, METEOR_JUDGE_* and METEOR_PROVIDERS_FILE."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.platform.providers import FILE, ProviderEntry, ProvidersFileError, given_providers

DEFAULT, JUDGE = "default", "judge"


def checked_headers(value: SecretStr) -> SecretStr:
    """Empty, or a JSON object of strings. Raises ValueError that does not show it."""
    text = value.get_secret_value()
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
        raise ValueError('expected a JSON object of strings, such as {"x-team": "a"}')
    return value


class _ProviderSettings(BaseSettings):
    """base_url as OpenAI's SDK takes it (with /v1). Prices in USD per million tokens. headers: a JSON object."""

    base_url: str = ""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    price_input: float = Field(default=0.0, ge=0)
    price_output: float = Field(default=0.0, ge=0)
    price_cached_input: float | None = Field(default=None, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent: int | None = Field(default=None, ge=1)
    fallback: list[str] = Field(default=[], description="providers to ask where this one fails, as a JSON list")
    json_schema: bool = True
    batch_price: float = Field(default=0.5, ge=0, le=1, description="share of the prices that its batch API costs")
    headers: SecretStr = SecretStr("")

    @field_validator("headers")
    @classmethod
    def _string_object(cls, value: SecretStr) -> SecretStr:
        return checked_headers(value)


class TeacherSettings(_ProviderSettings):
    """METEOR_TEACHER_*: the provider named "default"."""

    model_config = SettingsConfigDict(env_prefix="METEOR_TEACHER_", extra="ignore", hide_input_in_errors=True)


class JudgeProviderSettings(_ProviderSettings):
    """METEOR_JUDGE_BASE_URL, _MODEL, _API_KEY...: the provider "judge". Without a base URL it is the teacher's host."""

    model_config = SettingsConfigDict(env_prefix="METEOR_JUDGE_", extra="ignore", hide_input_in_errors=True)


class Provider(NamedTuple):
    """One configured strong model. address_from, key_from: what to look at when its address or its key is wrong.

    price_cached_input: of input that the provider had cached, where that is cheaper. reasoning_tokens: what it may write
    in one answer beside max_tokens. concurrent: calls at once; None: METEOR_STRONG_CONCURRENCY. fallback: names of those
    that are asked where it fails. json_schema: it heeds a response_format of that type. batch_price: the share of its
    prices that a call by its batch API costs.
    """

    name: str
    base_url: str
    model: str
    api_key: SecretStr
    headers: SecretStr
    price_input: float
    price_output: float
    address_from: str
    key_from: str
    price_cached_input: float | None = None
    reasoning_tokens: int = 0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    fallback: tuple[str, ...] = ()
    json_schema: bool = True
    batch_price: float = 0.5

    def in_batches(self) -> "Provider":
        """The same at the prices of its batch API."""
        share = self.batch_price
        cached = None if self.price_cached_input is None else self.price_cached_input * share
        return self._replace(
            price_input=self.price_input * share, price_output=self.price_output * share, price_cached_input=cached
        )

    def usd(self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> float:
        """cached_input_tokens: a part of the input tokens."""
        cheaper = self.price_input if self.price_cached_input is None else self.price_cached_input
        fresh = input_tokens - cached_input_tokens
        return (fresh * self.price_input + cached_input_tokens * cheaper + output_tokens * self.price_output) / 1e6

    def request_headers(self) -> dict[str, str]:
        """Authorization (when there is a key) and what the operator adds."""
        key, extra = self.api_key.get_secret_value(), self.headers.get_secret_value()
        return ({"authorization": f"Bearer {key}"} if key else {}) | (json.loads(extra) if extra else {})


MORE = (
    "price_cached_input", "reasoning_tokens", "requests_per_minute", "tokens_per_minute", "concurrent", "json_schema",
    "batch_price",
)  # fmt: skip


def _more(given: _ProviderSettings | ProviderEntry) -> dict[str, Any]:
    """What both ways of setting up a provider have in common and may leave out."""
    return {name: getattr(given, name) for name in MORE} | {"fallback": tuple(given.fallback)}


def _provider(name: str, given: _ProviderSettings, variables: str) -> Provider:
    return Provider(
        name=name,
        base_url=given.base_url.rstrip("/"),
        model=given.model,
        api_key=given.api_key,
        headers=given.headers,
        price_input=given.price_input,
        price_output=given.price_output,
        **_more(given),
        address_from=f"{variables}BASE_URL",
        key_from=f"{variables}API_KEY",
    )


def of_file(path: Path | None, environment: Mapping[str, str]) -> dict[str, Provider]:
    """The providers of METEOR_PROVIDERS_FILE with their secrets. Raises ProvidersFileError."""
    return {name: _of_entry(name, entry, environment) for name, entry in given_providers(path, environment).items()}


def _of_entry(name: str, entry: ProviderEntry, environment: Mapping[str, str]) -> Provider:
    try:
        headers = checked_headers(SecretStr(environment[entry.headers_env] if entry.headers_env else ""))
    except ValueError as error:
        raise ProvidersFileError(f"provider {name!r}: {entry.headers_env}: {error}") from None
    return Provider(
        name=name,
        base_url=entry.base_url.rstrip("/"),
        model=entry.model,
        api_key=SecretStr(environment[entry.api_key_env] if entry.api_key_env else ""),
        headers=headers,
        price_input=entry.price_input,
        price_output=entry.price_output,
        **_more(entry),
        address_from=f"base_url of {name!r} in {FILE}",
        key_from=entry.api_key_env or f"api_key_env of {name!r} in {FILE}",
    )


def all_providers(path: Path | None) -> dict[str, Provider]:
    """Those of the environment, then those of METEOR_PROVIDERS_FILE. Raises ProvidersFileError, also for a name that both have."""
    table, file = providers(TeacherSettings(), JudgeProviderSettings()), of_file(path, os.environ)
    if twice := ", ".join(sorted(table.keys() & file.keys())):
        raise ProvidersFileError(f"{FILE} and METEOR_TEACHER_* or METEOR_JUDGE_* both set up {twice}; leave one out")
    _check_fallbacks(table | file)
    return table | file


def _check_fallbacks(table: Mapping[str, Provider]) -> None:
    for name, provider in table.items():
        for other in provider.fallback:
            if other == name or other not in table:
                known = ", ".join(known for known in table if known != name) or "no other"
                raise ProvidersFileError(f"provider {name!r} has fallback {other!r}; there is {known}")


def providers(teacher: TeacherSettings, judge: JudgeProviderSettings) -> dict[str, Provider]:
    """Name -> provider, by the environment alone. The teacher's key never goes to a host of the judge's own."""
    table: dict[str, Provider] = {}
    if teacher.base_url and teacher.model:
        table[DEFAULT] = _provider(DEFAULT, teacher, "METEOR_TEACHER_")
    if judge.base_url and judge.model:
        table[JUDGE] = _provider(JUDGE, judge, "METEOR_JUDGE_")
    elif judge.model and DEFAULT in table:
        own = {name: getattr(judge, name) for name in ("model", "price_input", "price_output")}
        table[JUDGE] = table[DEFAULT]._replace(name=JUDGE, **own, **_more(judge))
    return table
