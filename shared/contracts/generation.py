"""How a model answers where the caller does not say: as it was evaluated. Kept with every published version."""

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.answer_format import SYSTEM


class Generation(BaseModel):
    """The defaults of a version's answers; a caller's own value wins. The empty object is how every evaluation asks.

    temperature: 0 is greedy. top_p: share of the likeliest tokens that are sampled from. max_tokens: longest plain answer, None
    as long as the context. stop: texts that end an answer. system: the system text of a conversation that has none. rationale: it was
    trained to write a rationale before each answer, which streams tell apart.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] = []
    system: str = SYSTEM
    rationale: bool = Field(default=False, exclude_if=lambda value: not value)


GREEDY = Generation()
