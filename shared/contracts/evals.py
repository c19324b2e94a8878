"""Evals as OpenAI's clients know them: graders that belong together (an eval), and models that are measured by them (its runs)."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from shared.contracts.data import Split
from shared.contracts.distillation import NO_NUL, Budget, Strict
from shared.contracts.grader_kinds import (
    BINARY_GRADERS,
    Grader,
    JsonSchemaGrader,
    MultiGrader,
    VerifyingGrader,
    VerifyingKind,
    file_ids,
    name_of,
)
from shared.contracts.graders import ANSWER, REFERENCE, TEMPLATED, VERIFYING
from shared.contracts.jobs import AnyRequest, JobKind, Metadata, Named
from shared.contracts.json_types import Json, Number, Switch, Whole
from shared.contracts.steps import Sampling, Wire
from shared.contracts.templates import checked_template, places

MOST_ITEMS = 10_000  # of a run
MOST_TOKENS = 512  # of an answer, where neither the run nor the version says
HALF = 0.5  # the pass mark of graders with scores between, where none is given
SOURCES_REFUSED = {
    "logs": "requests are not logged here, so there are none to evaluate",
    "stored_completions": "a run reads no stored chats; make a dataset of them (POST /v1/imports) and name its file",
    "responses": "responses are not stored here; a run of type completions asks the model",
}

EvalName = Annotated[str, Field(max_length=200, pattern=NO_NUL)]


def _known(value: Any, kinds: tuple[str, ...]) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in SOURCES_REFUSED and kind not in kinds:
        raise ValueError(f"type {kind} is not offered: {SOURCES_REFUSED[kind]}; use {' or '.join(kinds)}")
    return value


# What an eval is


class CustomSource(Strict):
    """item_schema: the JSON schema that each item of a run must meet. include_sample_schema: kept; a run says whether it samples."""

    type: Literal["custom"]
    item_schema: Json
    include_sample_schema: Switch = False


DataSourceConfig = Annotated[CustomSource, BeforeValidator(lambda value: _known(value, ("custom",)))]


class CustomSourceShown(BaseModel):
    """As OpenAI's client reads it: the schema of an item and, where the model is asked, of a sample."""

    type: Literal["custom"] = "custom"
    schema_: Json = Field(alias="schema")
    model_config = ConfigDict(populate_by_name=True)


def shown_source(source: CustomSource) -> CustomSourceShown:
    parts: Json = {"item": source.item_schema}
    if source.include_sample_schema:
        parts["sample"] = {"type": "object", "properties": {"output_text": {"type": "string"}}}
    return CustomSourceShown(schema={"type": "object", "properties": parts, "required": list(parts)})


def _kind(value: Any) -> str:
    return "name" if isinstance(value, str | Grader) else "object"


EvalGrader = Annotated[
    Annotated[Grader, Tag("name")] | Annotated[VerifyingKind, Tag("object")],
    Discriminator(_kind),
]


class Criterion(Wire):
    """One of an eval's testing_criteria: a grader with a name, and the score from which an answer passes.

    On the wire the grader's fields stand beside name and pass_threshold. input, reference: templates of what is compared, for
    graders that have none of their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    pass_threshold: Number = Field(ge=0, le=1)
    grader: EvalGrader
    input: str = Field(default=ANSWER[0], max_length=50_000)
    reference: str = Field(default=REFERENCE[0], max_length=50_000)

    @model_validator(mode="before")
    @classmethod
    def _of_the_wire(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "grader" in value:
            return value
        kind, given = value.get("type"), dict(value)
        if not isinstance(kind, str) or kind not in (*TEMPLATED, *VERIFYING, *Grader):
            raise ValueError(f"type must be one of {', '.join(dict.fromkeys([*TEMPLATED, *VERIFYING, *Grader]))}")
        own: Json = {"pass_threshold": given.pop("pass_threshold", None)}
        own["name"] = given.get("name") if kind in NAMED else given.pop("name", None)
        if own["name"] is None:
            raise ValueError("name: each criterion needs one, by which its results are told")
        if kind in COMPARING:
            own |= {field: given.pop(field) for field in ("input", "reference") if field in given}
        own["grader"] = given
        if kind not in (*TEMPLATED, *VERIFYING):
            own["grader"] = kind
            if extra := sorted(given.keys() - {"type"}):
                raise ValueError(f"{extra[0]}: {kind} has no such setting")
        if own["pass_threshold"] is None:
            if kind == "text_similarity":
                raise ValueError("pass_threshold: text_similarity needs one, the score from which an answer passes")
            own["pass_threshold"] = 1.0 if kind == "string_check" or kind in BINARY_GRADERS else HALF
        return own

    @field_validator("input", "reference")
    @classmethod
    def _a_template(cls, text: str) -> str:
        return checked_template(text)

    @property
    def verifying(self) -> VerifyingGrader | None:
        """None for a grader of texts that has a name only."""
        return None if isinstance(self.grader, Grader) else self.grader

    @property
    def type(self) -> str:
        return self.grader.value if isinstance(self.grader, Grader) else self.grader.type

    @property
    def graded_name(self) -> str:
        return name_of(self.grader)

    @property
    def templates(self) -> list[str]:
        """Those whose fields every item must have."""
        match self.grader:
            case MultiGrader():
                parts = [part for part in self.grader.graders.values() if not isinstance(part, Grader)]
                return [text for part in parts for text in part.templates]
            case Grader():
                return [self.input, self.reference] if self.type in COMPARING else []
            case grader:
                return [self.input, self.reference] if self.type in COMPARING else grader.templates

    @property
    def has_its_own_reference(self) -> bool:
        """Whether it compares with something in its own settings."""
        return isinstance(self.grader, JsonSchemaGrader) and self.grader.of is not None

    @property
    def reads_sample(self) -> bool:
        """Whether it grades what a model answered, not two fields of an item."""
        texts = self.templates
        return not texts or any(path.startswith("sample") for text in texts for path in places(text))

    def on_the_wire(self) -> Json:
        shown: Json = (
            {"type": self.type}
            if isinstance(self.grader, Grader)
            else self.grader.model_dump(mode="json", by_alias=True)
        )
        if self.type in COMPARING:
            shown |= {"input": self.input, "reference": self.reference}
        return shown | {"name": self.name, "pass_threshold": self.pass_threshold}


# Graders of ours that compare the answer with a reference, so that a criterion has templates for both.
COMPARING = (
    "number", "json_equal", "json_schema", "regex_equal", "sql_result", "code_tests", "plugin",
    *(grader.value for grader in Grader if grader not in TEMPLATED),
)  # fmt: skip
# Those that have a name among their own fields, as OpenAI's have.
NAMED = frozenset(
    get_args(kind.model_fields["type"].annotation)[0]
    for kind in get_args(VerifyingGrader)
    if "name" in kind.model_fields
)


class EvalRequest(Strict):
    """Body of POST /v1/evals."""

    data_source_config: DataSourceConfig
    testing_criteria: list[Criterion] = Field(min_length=1, max_length=50)
    name: EvalName = ""
    metadata: Metadata | None = None

    @field_validator("testing_criteria")
    @classmethod
    def _names_differ(cls, criteria: list[Criterion]) -> list[Criterion]:
        names = [one.name for one in criteria]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two criteria are called {twice!r}; their results could not be told apart")
        return criteria


class EvalChange(Strict):
    """Body of POST /v1/evals/{id}: what may be changed. Graders stay, so that runs can be compared."""

    name: EvalName | None = None
    metadata: Metadata | None = None


class EvalObject(BaseModel):
    """`eval`."""

    id: str
    object: Literal["eval"] = "eval"
    created_at: int
    name: str
    data_source_config: CustomSourceShown
    testing_criteria: list[Json]
    metadata: dict[str, str] | None = None


class EvalDeleted(BaseModel):
    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: Literal[True] = True
    eval_id: str


# What a run is


class GivenItem(Strict):
    """A row of a run. sample: what a model answered, as {"output_text": ...}."""

    item: Json
    sample: Json | None = None


class FileContent(Strict):
    type: Literal["file_content"]
    content: list[GivenItem] = Field(min_length=1, max_length=MOST_ITEMS)


class FileById(Strict):
    """An uploaded file: one {"item": ..., "sample": ...} a line, or rows of a dataset, each of which is an item then.

    split: of a dataset, its rows of this split alone.
    """

    type: Literal["file_id"]
    id: str = Field(min_length=1, max_length=64)
    split: Split | None = None


Source = Annotated[
    Annotated[FileContent | FileById, Field(discriminator="type")],
    BeforeValidator(lambda value: _known(value, ("file_content", "file_id"))),
]


class Text(Strict):
    type: Literal["input_text", "output_text", "text"]
    text: str = Field(max_length=50_000)


def _only_text(value: Any) -> Any:
    parts = value if isinstance(value, list) else [value]
    kind = next(
        (
            part.get("type")
            for part in parts
            if isinstance(part, dict) and part.get("type") not in ("input_text", "output_text", "text")
        ),
        None,
    )
    if kind is not None:
        raise ValueError(f"{str(kind)[:50]}: the models here read text only; use input_text")
    return value


class TemplateMessage(Strict):
    """content: texts with templates over the item."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[str | Text | list[str | Text], BeforeValidator(_only_text)]

    @property
    def text(self) -> str:
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)

    @field_validator("content")
    @classmethod
    def _templates(cls, content: str | Text | list[str | Text]) -> str | Text | list[str | Text]:
        for part in content if isinstance(content, list) else [content]:
            text = checked_template(part if isinstance(part, str) else part.text)
            if any(path.startswith("sample") for path in places(text)):
                raise ValueError("a model is asked before there is a sample; use {{item.FIELD}}")
        return content


class MessageTemplate(Strict):
    type: Literal["template"]
    template: list[TemplateMessage] = Field(min_length=1, max_length=1000)


class ItemReference(Strict):
    """item_reference: a path such as item.messages, to a list of messages or a text."""

    type: Literal["item_reference"]
    item_reference: str = Field(max_length=200, pattern=r"^item\.[^{}]+$")


InputMessages = Annotated[MessageTemplate | ItemReference, Field(discriminator="type")]


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Annotated[str, Field(max_length=50)]


class RunSampling(Strict):
    """Greedy where nothing is said, as the chat is."""

    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    seed: Whole | None = Field(default=None, ge=0, le=2**31 - 1)
    max_completion_tokens: Whole | None = Field(default=None, ge=1, le=32_768)
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    tools: list[Json] | None = None

    @model_validator(mode="after")
    def _what_is_offered(self) -> "RunSampling":
        if self.response_format is not None and self.response_format.type != "text":
            raise ValueError(
                "response_format: evals ask for plain text; json_equal or json_schema grade the JSON in it"
            )
        if self.reasoning_effort not in (None, "none"):
            raise ValueError("reasoning_effort: not offered in evals; a provider's own setting decides")
        if self.tools:
            raise ValueError("tools: not offered in evals; a job's report measures rows with tools")
        return self


class JsonlRun(Strict):
    """Answers that are there already, in the items or their samples."""

    type: Literal["jsonl"]
    source: Source


class CompletionsRun(Strict):
    """A model is asked. model: a base, an alias, alias@version, or a configured provider. input_messages: where there are none an item's
    messages are asked, or its question."""

    type: Literal["completions"]
    source: Source
    model: str = Field(min_length=1, max_length=200)
    input_messages: InputMessages | None = None
    sampling_params: RunSampling | None = None


RunSource = Annotated[
    Annotated[JsonlRun | CompletionsRun, Field(discriminator="type")],
    BeforeValidator(lambda value: _known(value, ("jsonl", "completions"))),
]


class RunRequest(Strict):
    """Body of POST /v1/evals/{eval_id}/runs. budget: of calls to a provider; a run that would exceed it fails."""

    data_source: RunSource
    name: EvalName = ""
    metadata: Metadata | None = None
    budget: Budget = Budget(on_exceed="fail")

    @field_validator("budget")
    @classmethod
    def _ends(cls, budget: Budget) -> Budget:
        if "on_exceed" in budget.model_fields_set and budget.on_exceed == "pause":
            raise ValueError("a run does not pause; use on_exceed fail, and start another: paid answers are kept")
        return budget.model_copy(update={"on_exceed": "fail"})


class EvalRun(AnyRequest):
    """What is kept of a run, as its job. criteria: the eval's, so that it can be read alone. target: what `model` names; model_id: the
    version that it was then. sha256: of the file."""

    kind = JobKind.EVAL
    eval_id: str
    name: str
    data_source: RunSource
    criteria: list[Criterion]
    metadata: Metadata | None
    budget: Budget
    target: Literal["none", "base", "version", "provider"]
    model_id: str | None = None
    max_tokens: int = MOST_TOKENS
    items: int = 0

    @property
    def reads(self) -> str | None:
        source = self.data_source.source
        return source.id if isinstance(source, FileById) else None

    @property
    def names(self) -> Named:
        graders = file_ids(one.verifying for one in self.criteria if one.verifying)
        return Named([self.reads, *graders] if self.reads else graders, self.model_id, self.eval_id)

    def called(self, job_id: str) -> str:
        return f"run {job_id} of eval {self.eval_id}"

    @property
    def model(self) -> str:
        return self.data_source.model if isinstance(self.data_source, CompletionsRun) else ""

    @property
    def sampling(self) -> Sampling:
        given = self.data_source.sampling_params if isinstance(self.data_source, CompletionsRun) else None
        given = given or RunSampling()
        return Sampling(
            max_tokens=given.max_completion_tokens or self.max_tokens,
            temperature=given.temperature or 0.0,
            top_p=1.0 if given.top_p is None else given.top_p,
            seed=given.seed or 0,
        )
