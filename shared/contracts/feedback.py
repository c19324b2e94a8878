"""What people say of a stored chat: POST|GET /v1/feedback."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.distillation import NO_NUL

Rating = Literal["up", "down"]
CompletionId = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
Author = Annotated[str, Field(max_length=512, pattern=NO_NUL)]
Text = Annotated[str, Field(max_length=32_000, pattern=NO_NUL)]
Comment = Annotated[str, Field(max_length=10_000, pattern=NO_NUL)]


class FeedbackRequest(BaseModel):
    """Body of POST /v1/feedback. rating: a thumb. score: 0 (useless) to 1 (perfect). correction: the answer that should have been
    given. comment: free text. author: who says it, in the caller's own words; what the same author said of the chat before is
    replaced."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    completion_id: CompletionId
    rating: Rating | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    correction: Text | None = None
    comment: Comment | None = None
    author: Author | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackRequest":
        texts = [text for text in (self.correction, self.comment) if text is not None]
        if any(not text.strip() for text in texts):
            raise ValueError("correction and comment must not be blank; leave out what is not said")
        if self.rating is None and self.score is None and not texts:
            raise ValueError("say something: rating, score, correction or comment")
        return self


class FeedbackObject(BaseModel):
    """version: the version that answered, or the base."""

    id: str
    object: Literal["feedback"] = "feedback"
    completion_id: str
    version: str
    rating: Rating | None = None
    score: float | None = None
    correction: str | None = None
    comment: str | None = None
    author: str | None = None
    created_at: int
    updated_at: int
