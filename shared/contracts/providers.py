"""What the gateway says of a provider: how requests are changed for it, and the room that its reasoning needs."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.contracts.errors import ErrorBody


class Change(BaseModel):
    """One change to requests. field: of the request. how: what becomes of it, such as "left out". why: the provider's words.

    at: when it was learned, Unix seconds. times: how many requests this gateway has changed so since it started.
    """

    field: str
    how: str
    why: str = ""
    at: float = 0.0
    times: int = 0


class ProviderTraffic(BaseModel):
    """How calls go now. breaker: open while the provider gets nothing but probes, because of `cause`. in_use: calls on their way; limit: so
    many at once it bears now; most: as it is set. requests_per_minute, tokens_per_minute: null is no limit."""

    breaker: Literal["closed", "open"]
    cause: str = ""
    in_use: int
    limit: int
    most: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class ProviderStatus(BaseModel):
    """room: tokens added to a request's limit, because its reasoning counts inside the limit. context: tokens of prompt and answer
    that it takes; None where it has not said so."""

    name: str
    model: str
    address: str
    room: int = 0
    context: int | None = None
    changed: list[Change] = []
    traffic: ProviderTraffic | None = Field(default=None, description="of the running gateway; not of a test")


class ProvidersStatus(BaseModel):
    providers: list[ProviderStatus]


class ProviderObject(ProviderStatus):
    """A configured strong model. id: its name. Prices in USD per million tokens."""

    id: str
    object: Literal["provider"] = "provider"
    price_input: float = 0.0
    price_output: float = 0.0


class ProviderReport(ProviderStatus):
    """What a test of a few calls found out; what is None was not found out.

    answers: the first call was answered, in so many `seconds`; error: why not. listed: its list of models has this one.
    structured: the strictest form of structured output that it keeps. system_role: "kept", or what becomes of it. seed: whether
    two draws with one seed are equal. logprobs, batch: it gives log-probabilities; it has a batch API. limits: its headers that tell rate limits. reasoning_tokens: most of one answer; 1 where they are not counted.
    counts_tokens: it says what it used. calls to usd: what the test took. notes: parts of the test that failed, and why.
    cached: the report of an earlier test.
    """

    object: Literal["provider.test"] = "provider.test"
    tested_at: float
    cached: bool = False
    answers: bool = False
    error: ErrorBody | None = None
    seconds: float | None = None
    listed: bool | None = None
    structured: Literal["json_schema", "json_object", "none"] | None = None
    system_role: str | None = None
    seed: Literal["honoured", "ignored", "dropped"] | None = None
    logprobs: bool | None = None
    batch: bool | None = None
    limits: dict[str, str] = {}
    reasoning_tokens: int = 0
    counts_tokens: bool = True
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    notes: list[str] = []
