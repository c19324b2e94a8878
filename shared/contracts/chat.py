"""Bodies of /v1/chat/completions, /v1/completions and /v1/responses: OpenAI's parameters and vLLM's that are passed on.

A field that is not here reaches no engine: `stray` has it, and the API decides whether it is ignored or refused. null stands for
"not given" everywhere. Values are checked for their form, and for their size where the engine would compute without end or fail
of them. What only the engine can judge (tokens, templates, schemas) it judges itself.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from shared.contracts.jobs import Metadata
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
    """A text stands for a list of one; an empty text, which would end every answer, for nothing."""
    values = [value] if isinstance(value, str) else value
    return [one for one in values if one != ""] if isinstance(values, list) else values


def _whole(value: Any) -> Any:
    """16.0 is 16, as in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _capped(value: Any) -> Any:
    """Any length beyond the largest one means as long as possible."""
    value = _whole(value)
    return min(value, LARGEST_INT) if isinstance(value, int) and not isinstance(value, bool) else value


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
            what = f", not {kind!r}" if isinstance(kind, str) else ""
            raise ValueError(
                f"part {place} must be of type {' or '.join(kinds)}{what}: the models read text, no pictures, sound or files"
            )
        if not isinstance(part.get("refusal" if kind == "refusal" else "text"), str):
            raise ValueError(f"part {place} has no text")
    return content


SomeWords = Annotated[list[str], Field(max_length=MOST_WORDS)]
Words = Annotated[SomeWords, BeforeValidator(_listed, json_schema_input_type=str | SomeWords)]
Int = Annotated[int, BeforeValidator(_whole)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_INT)]], Field(max_length=MOST_WORDS)]
Count = Annotated[Int, Field(ge=0, le=LARGEST_INT)]
Limit = Annotated[int, BeforeValidator(_capped), Field(ge=1)]
Typed = Annotated[Json, AfterValidator(_typed)]
ResponseFormat = Annotated[Typed, AfterValidator(_formed)]


class Body(BaseModel):
    """Strict: a number is no text and "yes" is no boolean, as the engine would have it too."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


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
    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(Body):
    """What all three routes take. user, safety_identifier: who asks, in the caller's own words; conversations of one user
    stay with one version while a canary runs."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=200)]
    stream: bool | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], float] | None = None
    seed: Int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Words | None = None
    stream_options: StreamOptions | None = None
    # vLLM's
    top_k: Int | None = Field(default=None, ge=-1, le=LARGEST_INT)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    stop_token_ids: TokenIds | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None

    @property
    def sent(self) -> Json:
        """The known fields that were given, without nulls and empty lists: both say nothing."""
        given = self.model_dump(exclude_unset=True, exclude=set(self.stray))
        return {name: value for name, value in given.items() if value is not None and value != []}

    @property
    def stray(self) -> Json:
        """The other fields that were given."""
        return {name: value for name, value in (self.model_extra or {}).items() if value is not None}


class Generated(GenerationRequest):
    """What chat and plain completions have in common beside that."""

    max_tokens: Limit | None = None
    n: Int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    response_format: ResponseFormat | None = None
    # vLLM's
    structured_outputs: StructuredOutputs | None = None
    min_tokens: Count | None = None
    allowed_token_ids: TokenIds | None = None
    bad_words: Words | None = None
    truncate_prompt_tokens: Int | None = Field(default=None, ge=-1, le=LARGEST_INT)
    prompt_logprobs: Int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    spaces_between_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None


ShortText = Annotated[str, Field(max_length=512)]
LongText = Annotated[str, Field(max_length=65_536)]
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class CalledFunction(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: ShortText
    arguments: LongText | None = None


class CalledTool(BaseModel):
    """A call in an earlier message of the assistant."""

    model_config = ConfigDict(extra="ignore")

    id: ShortText | None = None
    function: CalledFunction


class Message(BaseModel):
    """One message. What clients echo of an answer beside these fields (refusal, audio, annotations, ...) is dropped."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Role
    content: str | list[Json] | None = None
    name: ShortText | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: ShortText | None = None
    function_call: CalledFunction | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        return _text_parts(value, ("text", "refusal"))

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.content is None and self.role == "user":
            raise ValueError("a message of the user needs content")
        return self


class Function(BaseModel):
    """parameters: a JSON schema of the arguments; None for a function without any."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")
    description: LongText | None = None
    parameters: Json | None = None

    @field_validator("parameters")
    @classmethod
    def _ends(cls, value: Json | None) -> Json | None:
        find_endless(value or {})
        return value


class Tool(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["function"]
    function: Function


class ChatRequest(Generated):
    """OpenAI's chat completion. functions and function_call: the older names of tools and tool_choice. store: the chat is kept once it
    is answered, with `metadata`; false: not even where a share of the model's chats is stored."""

    store: bool | None = None
    metadata: Metadata | None = None
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    tools: list[Tool] | None = Field(default=None, max_length=MOST_WORDS)
    tool_choice: Typed | Literal["none", "auto", "required"] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = Field(default=None, max_length=MOST_WORDS)
    function_call: Json | Literal["none", "auto"] | None = None
    # vLLM's
    echo: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, bool | int | float | ShortText | None] | None = Field(default=None, max_length=32)


class CompletionRequest(Generated):
    """A plain continuation of a text: no template and no system text; `logprobs` is a number here."""

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: Int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)


def _text_formed(value: Json) -> Json:
    form = value.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        _formed({"type": "json_schema", "json_schema": form})
    return value


TextFormat = Annotated[Json, AfterValidator(_text_formed)]


class ResponsesRequest(GenerationRequest):
    """OpenAI's Responses API, without what needs a store: each request holds its whole conversation.

    tools are flat here: {"type": "function", "name", "description", "parameters"}.
    """

    input: str | Annotated[list[Json], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Limit | None = None
    include: list[ShortText] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    parallel_tool_calls: bool | None = None
    reasoning: Json | None = None
    text: TextFormat | None = None
    tools: list[Typed] | None = Field(default=None, max_length=MOST_WORDS)
    tool_choice: Typed | Literal["none", "auto", "required"] | None = None
    top_logprobs: Int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    truncation: Literal["auto", "disabled"] | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        for item in value if isinstance(value, list) else []:
            if isinstance(item, dict):
                _text_parts(item.get("content"), ("input_text", "output_text", "refusal", "reasoning_text", "text"))
        return value
