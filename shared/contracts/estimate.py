"""What a job is estimated to cost at strong models: ranges, per phase and in all."""

from typing import Literal, NamedTuple

from pydantic import BaseModel


class Price(NamedTuple):
    """USD per million tokens. batch: the share of both that a call by the provider's batch API costs."""

    input: float
    output: float
    batch: float = 0.5

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Range(BaseModel):
    low: float = 0
    high: float = 0

    def __add__(self, other: "Range") -> "Range":
        return Range(low=self.low + other.low, high=self.high + other.high)


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


class Estimate(BaseModel):
    """basis: "price list" before any call was made, "pilot" once the pilot's calls have been measured.

    prices: by provider, [input, output] in USD per million tokens, and the share of both that batches cost. total: the sum of the phases.
    """

    object: Literal["distillation.estimate"] = "distillation.estimate"
    basis: Literal["price list", "pilot"] = "price list"
    phases: dict[str, Spend]
    total: Spend
    prices: dict[str, Price]
    assumptions: list[str]
