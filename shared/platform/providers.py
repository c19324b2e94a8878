"""METEOR_PROVIDERS_FILE, or providers.toml of the data folder: strong models by name, as TOML or JSON. Keys are not in it, only the names of their variables."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.contracts.distillation import Name
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json

FILE = "METEOR_PROVIDERS_FILE"
DEFAULT_FILE = "providers.toml"  # of the data folder
OWN_FIELDS = ("model", "messages", "stream")  # of a request: what the gateway itself sets
SECRET_FIELDS = ("api_key", "key", "token", "headers")


class ProviderOptions(BaseModel):
    """Prices, limits and abilities of a strong model. Prices in USD per million tokens.

    price_cached_input: of input that the provider had cached; None: price_input. reasoning_tokens: most that it writes in one
    answer beside max_tokens; budgets reserve them. concurrent: most calls at once; None: METEOR_STRONG_CONCURRENCY.
    fallback: other providers, asked in this order where this one fails. json_schema: it accepts a response_format of that
    type. batch_price: the share of both prices that a call by its batch API costs.

    extra: fields added to each request. omit: fields that are never sent. query: query parameters of its address.
    api_key_header: the header that holds the key as it is; None: `Authorization: Bearer`. reasoning_effort: sent where a
    request names none. answer_room: the most tokens added to a request's limit for reasoning; 0: none is added.
    stream: whether answers are streamed; None: as far as it can. finished_by: more words of its finish_reason that mean a
    whole answer ("" where it sends none).
    """

    price_input: float = Field(default=0.0, ge=0)
    price_output: float = Field(default=0.0, ge=0)
    price_cached_input: float | None = Field(default=None, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent: int | None = Field(default=None, ge=1)
    fallback: list[Name] = []
    json_schema: bool = True
    batch_price: float = Field(default=0.5, ge=0, le=1)
    extra: Json = {}
    omit: list[str] = []
    query: dict[str, str] = {}
    api_key_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    reasoning_effort: str | None = Field(default=None, pattern=r"^\w+$")
    answer_room: int = Field(default=16_384, ge=0)
    stream: bool | None = None
    finished_by: list[str] = []

    @field_validator("extra", "omit")
    @classmethod
    def _may_be_set(cls, value: Json | list[str]) -> Json | list[str]:
        if kept := ", ".join(name for name in OWN_FIELDS if name in value):
            raise ValueError(f"{kept} cannot be set here")
        return value


class ProviderEntry(ProviderOptions):
    """base_url as OpenAI's SDK takes it (with /v1). api_key_env, headers_env: the names of environment variables that hold
    the key, and more headers as a JSON object."""

    model_config = ConfigDict(extra="forbid")

    base_url: str = Field(pattern=r"^https?://[^\s]+$")
    model: str = Field(min_length=1)
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    headers_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")

    @property
    def variables(self) -> list[str]:
        return [name for name in (self.api_key_env, self.headers_env) if name]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)  # somebody may have put a key into it

    providers: dict[Name, ProviderEntry] = {}


class ProvidersFileError(UserError):
    code = "providers_file_invalid"


def providers_path(given: Path | None, data: Path) -> Path | None:
    """The file that METEOR_PROVIDERS_FILE names, else that of the data folder; None where there is none."""
    default = data / DEFAULT_FILE
    return given or (default if default.exists() else None)


def given_providers(path: Path | None, environment: Mapping[str, str]) -> dict[str, ProviderEntry]:
    """Name -> entry of the file, in its order; none where there is no file.

    Raises ProvidersFileError, also for variables that the file names and the environment has not.
    """
    entries = read_providers(path) if path else {}
    missing = [
        f"provider {name!r} takes a secret from {variable}, which is not set"
        for name, entry in entries.items()
        for variable in entry.variables
        if not environment.get(variable)
    ]
    if missing:
        raise ProvidersFileError(f"{path}: {'; '.join(missing)}")
    return entries


def read_providers(path: Path) -> dict[str, ProviderEntry]:
    """Raises ProvidersFileError that says where, and never shows a value."""
    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return _File.model_validate(content).providers
    except OSError as error:
        raise ProvidersFileError(f"the providers file {path} ({FILE}) cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ProvidersFileError(f"{path}: {first_problem(error)}") from None
    except ValueError as error:
        form = "JSON" if path.suffix == ".json" else "TOML"
        raise ProvidersFileError(f"{path} is not {form}: {error}") from None


def first_problem(error: ValidationError) -> str:
    """Where the first mistake is and what it is, without the value."""
    first = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    hint = ""
    if first["type"] == "extra_forbidden" and str(first["loc"][-1]) in SECRET_FIELDS:
        hint = "; secrets do not belong into this file: api_key_env and headers_env name the variables that hold them"
    return f"{where}: {first['msg']}{hint}"


def secret_variables(entries: Iterable[ProviderEntry]) -> set[str]:
    """The names of the environment variables that hold the entries' secrets."""
    return {name for entry in entries for name in entry.variables}
