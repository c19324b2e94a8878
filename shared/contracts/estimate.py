"""What a job is estimated to cost at strong models: ranges, per phase and in all."""

from typing import Literal, NamedTuple

from pydantic import BaseModel, Field


class Price(NamedTuple):
    """USD per million tokens. batch: the share of both that a call by the provider's batch API costs."""

    input: float
    output: float
    batch: float = 0.5

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Range(BaseModel):
    """at_most: a hard limit, where it is told apart from what is likely (low to high)."""

    low: float = 0
    high: float = 0
    at_most: float | None = Field(default=None, exclude_if=lambda limit: limit is None)

    def __add__(self, other: "Range") -> "Range":
        limits = [one.high if one.at_most is None else one.at_most for one in (self, other)]
        told = self.at_most is not None or other.at_most is not None
        return Range(low=self.low + other.low, high=self.high + other.high, at_most=sum(limits) if told else None)


class Spend(BaseModel):
    """Calls to strong models, their tokens and price. usd None: a price is not known."""

    calls: Range = Range()
    input_tokens: Range = Range()
    output_tokens: Range = Range()
    usd: Range | None = Range()

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            usd=None if self.usd is None or other.usd is None else self.usd + other.usd,
        )


class DeviceFit(BaseModel):
    """Memory of the device that trains, in GB. engine_gb: what the student's engine holds of it. training_gb: what the largest training
    takes at least. remedy: what to change where the two do not fit; empty where they do."""

    device: Literal["cpu", "gpu"]
    device_gb: float
    engine_gb: float
    training_gb: float
    fits: bool
    remedy: str = ""


class Estimate(BaseModel):
    """basis: "price list" before any call was made, "pilot" once the pilot's calls have been measured.

    prices: by provider, [input, output] in USD per million tokens, and the share of both that batches cost. total: the sum of the phases.
    seconds: how long the job runs, from its start. memory_gb: of the largest training, at least and at ease. memory: whether this
    machine's device has that. None where it is not known.
    """

    object: Literal["distillation.estimate"] = "distillation.estimate"
    basis: Literal["price list", "pilot"] = "price list"
    phases: dict[str, Spend]
    total: Spend
    prices: dict[str, Price]
    assumptions: list[str]
    seconds: Range | None = None
    memory_gb: Range | None = None
    memory: DeviceFit | None = None
