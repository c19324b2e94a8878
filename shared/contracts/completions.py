"""Stored chats as OpenAI's clients know them, and the share of an alias's chats that is stored without being asked for."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.jobs import Metadata
from shared.contracts.json_types import Json


class StoredCompletion(BaseModel):
    """A chat's answer with what was asked for. model: as the answer named it; version: the version that answered, or the base.
    masked: counts of masked personal data by kind; null: the chat was stored as it was. agreement: of several choices, the share that
    says the same as most."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    version: str
    choices: list[Json]
    usage: Json | None = None
    request_id: str
    metadata: dict[str, str] = {}
    input_user: str | None = None
    tools: list[Json] | None = None
    tool_choice: Json | str | None = None
    response_format: Json | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    masked: dict[str, int] | None = None
    agreement: float | None = None


class StoredMessage(BaseModel):
    """A message that the chat was asked with. content_parts: where it was given in parts; content is their text then."""

    id: str
    role: str
    content: str | None = None
    content_parts: list[Json] | None = None
    name: str | None = None
    tool_calls: list[Json] | None = None
    tool_call_id: str | None = None
    function_call: Json | None = None
    refusal: str | None = None


class CompletionChange(BaseModel):
    """Body of POST /v1/chat/completions/{completion_id}. metadata: in place of what it has; null: none."""

    model_config = ConfigDict(extra="forbid")

    metadata: Metadata | None


class CompletionDeleted(BaseModel):
    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: Literal[True] = True


class CaptureRequest(BaseModel):
    """Body of POST /v1/models/{alias}/capture. percent: of the alias's chats, drawn at random; a chat with `store: false` is never
    stored. mask: personal data in all stored chats of the alias is masked."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    percent: Annotated[float, Field(ge=0, le=100)]
    mask: bool = False


class CaptureObject(BaseModel):
    id: str
    object: Literal["model.capture"] = "model.capture"
    alias: str
    percent: float
    mask: bool
    created_at: int


class CaptureDeleted(BaseModel):
    id: str
    object: Literal["model.capture.deleted"] = "model.capture.deleted"
    deleted: Literal[True] = True
