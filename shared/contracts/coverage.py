"""Questions generated for a domain: the coverage map, and what a strong model is asked to propose for it."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.distillation import NO_NUL, Strict
from shared.contracts.steps import Wire

TopicName = Annotated[str, Field(min_length=1, max_length=120, pattern=NO_NUL)]
REVIEW = "waits with its coverage map"  # why an import is paused
TOPICS = "topics"  # the phase in which the map is made
LEVELS = ["basic", "intermediate", "advanced"]
Unread = Literal["cut_off", "empty", "unreadable"]


class CoverageCell(Strict):
    """So many questions of a topic at a level: a difficulty, or a kind of question."""

    topic: TopicName
    level: TopicName
    questions: int = Field(ge=0, le=5_000)


class CoveredCell(CoverageCell):
    """made: questions that the dataset has of the cell."""

    made: int


class ProposeParams(Wire):
    """For strong.propose: who proposes, in which domain, and how it decodes."""

    teacher: str
    domain: str
    max_tokens: int
    temperature: float
    seed: int


class Proposal(Wire):
    """What is asked for. topic empty: topics, else questions of this topic and level. known: those that are there already.

    material: of which origin it is: a passage of a document, or a question that a model answered badly.
    """

    id: str
    count: int
    topic: str = ""
    level: str = ""
    known: list[str] = Field(default=[])
    material: list[str] = Field(default=[])
    origin: Literal["", "passage", "log"] = ""


class Proposed(Wire):
    """items: topics or questions. dropped: those that cannot be used. unparsed: no list could be read in the reply; why: what was
    the matter with it."""

    id: str
    items: list[str]
    dropped: int = 0
    unparsed: bool = False
    why: Unread | None = None
