"""Rows that a provider always refuses although it accepts others of the same job: their content is filtered, or they are too long."""

from pydantic import BaseModel, ConfigDict

REFUSALS = "refusals"  # in a step's metrics: its refused rows
MOST = 0.2  # share of a phase's rows above which a job fails, if it does not say otherwise
LEAST = 10  # so many never make a job fail


class RefusedRow(BaseModel):
    """outcome: refused or too_long. words: the provider's own. phase: of the job; the worker does not know it."""

    model_config = ConfigDict(frozen=True)

    id: str
    outcome: str
    words: str
    phase: str = ""
