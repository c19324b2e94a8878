"""Settings of the strong-model service: the gateway's own, and who the teacher and the judge are."""

import json
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT, JUDGE = "default", "judge"


class StrongSettings(BaseSettings):
    """METEOR_STRONG_*. gateway_url: where the worker finds the gateway; slots: steps the worker runs at once."""

    model_config = SettingsConfigDict(env_prefix="METEOR_STRONG_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = 8200
    gateway_url: str = "http://127.0.0.1:8200"
    slots: int = Field(default=2, ge=1)
    concurrency: int = Field(default=32, ge=1, description="calls at once, per provider")
    attempts: int = Field(default=5, ge=1, description="times one request is sent at most")
    patience: timedelta = Field(
        default=timedelta(minutes=3), description="how long a request waits for a provider that takes no connection"
    )
    connect_timeout: timedelta = timedelta(seconds=5)
    attempt_timeout: timedelta = Field(default=timedelta(minutes=5), description="one attempt, answer included")
    deadline: timedelta = Field(
        default=timedelta(minutes=10), description="all attempts of one request, pauses included"
    )
    backoff: timedelta = Field(default=timedelta(seconds=0.5), description="first pause; doubles up to max_backoff")
    max_backoff: timedelta = timedelta(seconds=20)
    max_answer_bytes: int = Field(default=10_000_000, ge=1000)


class _ProviderSettings(BaseSettings):
    """base_url as OpenAI's SDK takes it (with /v1). Prices in USD per million tokens. headers: a JSON object."""

    base_url: str = ""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    price_input: float = Field(default=0.0, ge=0)
    price_output: float = Field(default=0.0, ge=0)
    headers: SecretStr = SecretStr("")

    @field_validator("headers")
    @classmethod
    def _string_object(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text:
            return value
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            raise ValueError('expected a JSON object of strings, such as {"x-team": "a"}') from None
        if not isinstance(found, dict) or not all(isinstance(item, str) for item in found.values()):
            raise ValueError('expected a JSON object of strings, such as {"x-team": "a"}')
        return value


class TeacherSettings(_ProviderSettings):
    """METEOR_TEACHER_*: the provider named "default"."""

    model_config = SettingsConfigDict(env_prefix="METEOR_TEACHER_", extra="ignore", hide_input_in_errors=True)


class JudgeProviderSettings(_ProviderSettings):
    """METEOR_JUDGE_BASE_URL, _MODEL, _API_KEY...: the provider "judge". Without a base URL it is the teacher's host."""

    model_config = SettingsConfigDict(env_prefix="METEOR_JUDGE_", extra="ignore", hide_input_in_errors=True)


class Provider(NamedTuple):
    """One configured strong model. variables: the prefix of the environment variables that set it."""

    name: str
    base_url: str
    model: str
    api_key: SecretStr
    headers: SecretStr
    price_input: float
    price_output: float
    variables: str

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.price_input + output_tokens * self.price_output) / 1e6

    def request_headers(self) -> dict[str, str]:
        """Authorization (when there is a key) and what the operator adds."""
        key, extra = self.api_key.get_secret_value(), self.headers.get_secret_value()
        return ({"authorization": f"Bearer {key}"} if key else {}) | (json.loads(extra) if extra else {})


def _provider(name: str, given: _ProviderSettings, variables: str) -> Provider:
    return Provider(
        name=name,
        base_url=given.base_url.rstrip("/"),
        model=given.model,
        api_key=given.api_key,
        headers=given.headers,
        price_input=given.price_input,
        price_output=given.price_output,
        variables=variables,
    )


def providers(teacher: TeacherSettings, judge: JudgeProviderSettings) -> dict[str, Provider]:
    """Name -> provider. The teacher's key never goes to a host of the judge's own."""
    table: dict[str, Provider] = {}
    if teacher.base_url and teacher.model:
        table[DEFAULT] = _provider(DEFAULT, teacher, "METEOR_TEACHER_")
    if judge.base_url and judge.model:
        table[JUDGE] = _provider(JUDGE, judge, "METEOR_JUDGE_")
    elif judge.model and DEFAULT in table:
        prices = {"price_input": judge.price_input, "price_output": judge.price_output}
        table[JUDGE] = table[DEFAULT]._replace(name=JUDGE, model=judge.model, **prices)
    return table


@lru_cache
def strong_settings() -> StrongSettings:
    return StrongSettings()
