"""The configured strong models: METEOR_TEACHER_*, METEOR_JUDGE_* and METEOR_PROVIDERS_FILE."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from pydantic import ConfigDict, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.json_types import Json
from shared.contracts.masking import SECRET_NAME, BadSecret, checked_secret, of_url, remember
from shared.platform.providers import FILE, ProviderEntry, ProviderOptions, ProvidersFileError, given_providers

DEFAULT, JUDGE = "default", "judge"


def checked_headers(value: SecretStr) -> SecretStr:
    """Empty, or a JSON object of strings. Raises ValueError that does not show it."""
    text = value.get_secret_value()
    try:
        headers = json.loads(text or "{}")
    except json.JSONDecodeError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(item, str) for item in headers.values()):
        raise ValueError('expected a JSON object of strings, such as {"x-team": "a"}')
    if bad := next(
        (name for name, item in headers.items() if not (name + item).isprintable() or not item.isascii()), None
    ):
        raise ValueError(f"the value of {bad!r} holds a line end or another letter that no HTTP header can carry")
    return SecretStr(json.dumps({name: item.strip() for name, item in headers.items()})) if headers else value


class _ProviderSettings(BaseSettings, ProviderOptions):
    """base_url as OpenAI's SDK takes it (with /v1). fallback: a JSON list. headers: a JSON object."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    base_url: str = ""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    headers: SecretStr = SecretStr("")

    @field_validator("headers")
    @classmethod
    def _string_object(cls, value: SecretStr) -> SecretStr:
        return checked_headers(value)


class TeacherSettings(_ProviderSettings):
    """METEOR_TEACHER_*: the provider named "default"."""

    model_config = SettingsConfigDict(env_prefix="METEOR_TEACHER_")


class JudgeProviderSettings(_ProviderSettings):
    """METEOR_JUDGE_BASE_URL, _MODEL, _API_KEY...: the provider "judge". Without a base URL it is the teacher's host."""

    model_config = SettingsConfigDict(env_prefix="METEOR_JUDGE_")


class Provider(ProviderOptions):
    """One configured strong model. address_from, key_from: the settings to check when its address or its key is wrong.

    settings_from: what the names of its variables begin with; "" for a provider of METEOR_PROVIDERS_FILE.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    base_url: str
    model: str
    api_key: SecretStr
    headers: SecretStr
    address_from: str
    key_from: str
    settings_from: str = ""

    @property
    def identity(self) -> list[str]:
        """What makes its answers its own: name, address, and what its settings add to each request. Other servers may use the same
        name for a model; a new key or another price changes no answer."""
        url = urlsplit(self.base_url)
        added = self.extra | ({"reasoning_effort": self.reasoning_effort} if self.reasoning_effort else {})
        own = [self.name, f"{url.scheme}://{url.netloc.rpartition('@')[2].lower()}{url.path.rstrip('/')}"]
        return [*own, json.dumps(added, sort_keys=True)] if added else own

    def in_batches(self) -> "Provider":
        """The same at the prices of its batch API."""
        prices = ("price_input", "price_output", "price_cached_input")
        given = {name: getattr(self, name) for name in prices if getattr(self, name) is not None}
        return self.model_copy(update={name: price * self.batch_price for name, price in given.items()})

    def usd(self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> float:
        """cached_input_tokens: a part of the input tokens."""
        cheaper = self.price_input if self.price_cached_input is None else self.price_cached_input
        fresh = input_tokens - cached_input_tokens
        return (fresh * self.price_input + cached_input_tokens * cheaper + output_tokens * self.price_output) / 1e6

    def setting(self, name: str) -> str:
        """Where this option of it is set."""
        return f"{self.settings_from}{name.upper()}" if self.settings_from else f"{name} of {self.name!r} in {FILE}"

    def secrets(self) -> list[str]:
        """Its key, and the values of the operator's headers, longest first."""
        headers = self.headers.get_secret_value()
        values = [self.api_key.get_secret_value(), *(json.loads(headers) if headers else {}).values()]
        return sorted((value for value in values if len(value) > 3), key=len, reverse=True)

    def request_headers(self) -> dict[str, str]:
        """Authorization (when there is a key) and what the operator adds."""
        key, more = self.api_key.get_secret_value(), self.headers.get_secret_value()
        named = {self.api_key_header: key} if self.api_key_header else {"authorization": f"Bearer {key}"}
        return (named if key else {}) | (json.loads(more) if more else {})


def address(base_url: str) -> str:
    """Without what is not part of it: the route that is added to it, and a query (see query_of)."""
    return base_url.strip().partition("?")[0].rstrip("/").removesuffix("/chat/completions")


def query_of(base_url: str) -> dict[str, str]:
    return dict(parse_qsl(base_url.strip().partition("?")[2]))


def _options(given: "_ProviderSettings | ProviderEntry") -> Json:
    options = {name: getattr(given, name) for name in ProviderOptions.model_fields}
    return options | {"query": query_of(given.base_url) | given.query}


def _key(variable: str, value: str) -> SecretStr:
    try:
        return SecretStr(checked_secret(variable, value))
    except BadSecret as error:
        raise ProvidersFileError(str(error)) from None


def _remembered(provider: Provider) -> Provider:
    """Its secrets are masked from now on."""
    remember(provider.secrets())
    remember(of_url(provider.base_url))
    remember(value for name, value in provider.query.items() if SECRET_NAME.search(name))
    return provider


def _provider(name: str, given: _ProviderSettings, variables: str) -> Provider:
    provider = Provider(
        name=name,
        base_url=address(given.base_url),
        model=given.model,
        api_key=_key(f"{variables}API_KEY", given.api_key.get_secret_value()),
        headers=given.headers,
        address_from=f"{variables}BASE_URL",
        key_from=f"{variables}API_KEY",
        settings_from=variables,
        **_options(given),
    )
    return _remembered(provider)


def of_file(path: Path | None, environment: Mapping[str, str]) -> dict[str, Provider]:
    """The providers of METEOR_PROVIDERS_FILE with their secrets. Raises ProvidersFileError."""
    return {name: _of_entry(name, entry, environment) for name, entry in given_providers(path, environment).items()}


def _of_entry(name: str, entry: ProviderEntry, environment: Mapping[str, str]) -> Provider:
    try:
        headers = checked_headers(SecretStr(environment[entry.headers_env] if entry.headers_env else ""))
    except ValueError as error:
        raise ProvidersFileError(f"provider {name!r}: {entry.headers_env}: {error}") from None
    provider = Provider(
        name=name,
        base_url=address(entry.base_url),
        model=entry.model,
        api_key=_key(entry.api_key_env, environment[entry.api_key_env]) if entry.api_key_env else SecretStr(""),
        headers=headers,
        address_from=f"base_url of {name!r} in {FILE}",
        key_from=entry.api_key_env or f"api_key_env of {name!r} in {FILE}",
        **_options(entry),
    )
    return _remembered(provider)


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
        table[JUDGE] = _beside(table[DEFAULT], judge)
    return table


def _beside(teacher: Provider, judge: JudgeProviderSettings) -> Provider:
    """The judge at the teacher's host, which is reached as the teacher is."""
    reached = {"query": teacher.query | judge.query, "api_key_header": judge.api_key_header or teacher.api_key_header}
    own = {"name": JUDGE, "model": judge.model, "settings_from": "METEOR_JUDGE_"}
    return teacher.model_copy(update=_options(judge) | own | reached)
