"""Bodies of /v1/chat/completions, /v1/completions and /v1/responses: OpenAI's parameters and vLLM's that are passed on.

An allow-list: what is not here is refused by its name. Left out on purpose: chat_template (it would run in the engine),
kv_transfer_params and vllm_xargs (the engine's inside), priority (ours to set), cache_salt (set by project), whatever makes the
engine fetch something or look at more than text, and what would have to be stored.

Values are checked for their form, and for their size where the engine would compute without end or fail of them. What only
the engine can judge (tokens, templates, schemas) it judges itself.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from shared.contracts.json_schemas import find_endless
from shared.contracts.json_types import Json

MOST_CHOICES = 128  # OpenAI's limit
MOST_WORDS = 1000  # stop texts, token ids, tools: more of them slow every token down
MOST_LOGPROBS = 20
LARGEST_INT = 2**31 - 1


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("must be the name of a model")
    return name


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _typed(value: Json) -> Json:
    if not isinstance(value.get("type"), str):
        raise ValueError("must be an object with a type")
    return value


def _formed(value: Json) -> Json:
    """A schema that stands for itself (no value could end it) is an internal error of the engine."""
    schema = value.get("json_schema") if value["type"] == "json_schema" else None
    if value["type"] == "json_schema" and not (isinstance(schema, dict) and isinstance(schema.get("schema"), dict)):
        raise ValueError("json_schema must be an object with name and schema")
    if isinstance(schema, dict):
        find_endless(schema["schema"])
    return value


def _text_parts(content: Any, kinds: tuple[str, ...]) -> Any:
    """Pictures and the like are refused here: the engine would fetch what they name."""
    for place, part in enumerate(content if isinstance(content, list) else []):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in kinds:
            raise ValueError(
                f"part {place} must be of type {' or '.join(kinds)}: the students read text and nothing else"
            )
        if not isinstance(part.get("refusal" if kind == "refusal" else "text"), str):
            raise ValueError(f"part {place} has no text")
    return content


SomeWords = Annotated[list[str], Field(max_length=MOST_WORDS)]
Words = Annotated[SomeWords, BeforeValidator(_listed, json_schema_input_type=str | SomeWords)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_INT)]], Field(max_length=MOST_WORDS)]
Count = Annotated[int, Field(ge=0, le=LARGEST_INT)]
Limit = Annotated[int, Field(ge=1, le=LARGEST_INT)]
Typed = Annotated[Json, AfterValidator(_typed)]
ResponseFormat = Annotated[Typed, AfterValidator(_formed)]


class Body(BaseModel):
    """Strict: a number is no text and "yes" is no boolean, as the engine would have it too."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @property
    def sent(self) -> Json:
        """The fields that were given."""
        return self.model_dump(exclude_unset=True)


class StructuredOutputs(Body):
    """vLLM's own: one of these texts, or one that the expression describes. JSON is asked for with response_format."""

    choice: Annotated[list[str], Field(min_length=1, max_length=MOST_WORDS)] | None = None
    regex: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        if (self.choice is None) == (self.regex is None):
            raise ValueError("either choice or regex")
        return self


class StreamOptions(Body):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(Body):
    """What all three routes take. user, safety_identifier: who asks, in the caller's own words; conversations of one user
    stay with one version while a canary runs."""

    model: Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=200)]
    stream: bool | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], float] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Words | None = None
    # vLLM's
    top_k: int | None = Field(default=None, ge=-1, le=LARGEST_INT)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    stop_token_ids: TokenIds | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None


class Generated(GenerationRequest):
    """What chat and plain completions have in common beside that."""

    max_tokens: Limit | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    # vLLM's
    structured_outputs: StructuredOutputs | None = None
    min_tokens: Count | None = None
    allowed_token_ids: TokenIds | None = None
    bad_words: Words | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1, le=LARGEST_INT)
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    spaces_between_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None


class Message(BaseModel):
    """One message; fields beside these (name, tool_calls, ...) pass."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Annotated[str, Field(max_length=64)]
    content: str | list[Json] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        return _text_parts(value, ("text", "refusal"))


class ChatRequest(Generated):
    """OpenAI's chat completion."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    tools: list[Typed] | None = Field(default=None, max_length=MOST_WORDS)
    tool_choice: Typed | str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    # vLLM's
    echo: bool | None = None
    continue_final_message: bool | None = None


class CompletionRequest(Generated):
    """A plain continuation of a text: no template and no system text; `logprobs` is a number here."""

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)


def _text_formed(value: Json) -> Json:
    form = value.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        _formed({"type": "json_schema", "json_schema": form})
    return value


TextFormat = Annotated[Json, AfterValidator(_text_formed)]


class ResponsesRequest(GenerationRequest):
    """OpenAI's Responses API, without what needs a store: each request holds its whole conversation."""

    input: str | Annotated[list[Json], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Limit | None = None
    store: Literal[False] | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    parallel_tool_calls: bool | None = None
    reasoning: Json | None = None
    text: TextFormat | None = None
    tools: list[Typed] | None = Field(default=None, max_length=MOST_WORDS)
    tool_choice: Typed | str | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    truncation: Literal["auto", "disabled"] | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        for item in value if isinstance(value, list) else []:
            if isinstance(item, dict):
                _text_parts(item.get("content"), ("input_text", "output_text", "refusal", "reasoning_text"))
        return value
