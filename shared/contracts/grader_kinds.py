"""Graders that verify: what a job may ask for beyond the named text similarities, each with its own settings."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from shared.contracts.formula import LONGEST, checked
from shared.contracts.graders import ANSWER, REFERENCE, VERIFYING, Grader, grader_name
from shared.contracts.json_types import Json, Number, Switch, Whole
from shared.contracts.templates import checked_template, places


class GraderKind(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    @property
    def templates(self) -> list[str]:
        """What is filled in with values of the item and the sample."""
        return []


Template = Annotated[str, Field(max_length=50_000)]


class _ComparesTexts(GraderKind):
    """input, reference: templates (shared/contracts/templates.py)."""

    input: Template = ANSWER[0]
    reference: Template = REFERENCE[0]
    name: str | None = Field(default=None, max_length=200)

    @field_validator("input", "reference")
    @classmethod
    def _a_template(cls, text: str) -> str:
        return checked_template(text)

    @property
    def templates(self) -> list[str]:
        return [self.input, self.reference]


class StringCheckGrader(_ComparesTexts):
    """OpenAI's string_check, letter by letter: eq, ne; like and ilike (case apart): the reference stands in the input."""

    type: Literal["string_check"]
    operation: Literal["eq", "ne", "like", "ilike"] = "eq"


class TextSimilarityGrader(_ComparesTexts):
    """OpenAI's text_similarity in [0, 1]: fuzzy_match (edits), bleu, gleu, and ROUGE's F-measures."""

    type: Literal["text_similarity"]
    evaluation_metric: Literal[
        "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
    ]

    @field_validator("evaluation_metric", mode="before")
    @classmethod
    def _without_a_model(cls, value: Any) -> Any:
        if value in ("cosine", "meteor"):
            raise ValueError(
                f"{value} needs a model or a dictionary of its own, which is not here; bleu or rouge_l are near"
            )
        return value


class NumberGrader(GraderKind):
    """The last number of the answer against the reference's. absolute, relative: the difference that is allowed, the larger of
    both. unit: units must agree where both have one. decimal: which sign stands before a fraction (1,234: thousands or not)."""

    type: Literal["number"]
    absolute: Number = Field(default=0.0, ge=0, allow_inf_nan=False)
    relative: Number = Field(default=1e-9, ge=0, le=1)
    unit: Switch = True
    decimal: Literal[".", ","] = "."


class JsonEqualGrader(GraderKind):
    """The JSON value of the answer equals the reference's. ordered: the order of lists counts. ignore: names of fields that do
    not count. relative: how far numbers may differ."""

    type: Literal["json_equal"]
    ordered: Switch = True
    ignore: list[Annotated[str, Field(max_length=200)]] = Field(default=[], max_length=100)
    relative: Number = Field(default=1e-9, ge=0, le=1)


class JsonSchemaGrader(GraderKind):
    """The JSON value of the answer meets a JSON schema: the one given here, else the row's reference."""

    type: Literal["json_schema"]
    of: Json | None = Field(default=None, alias="schema")


class RegexEqualGrader(GraderKind):
    """The answer is a regular expression of the same language as the reference, compared as minimal automata.

    syntax: python, or deep_regex: the spaced tokens of NL-RX (Locascio et al. 2016), with `&` and `~`.
    """

    type: Literal["regex_equal"]
    syntax: Literal["python", "deep_regex"] = "python"
    timeout_s: Number = Field(default=2.0, gt=0, le=60)


class SqlResultGrader(GraderKind):
    """The answer is a query with the same result as the reference's. database: id of an uploaded SQLite file.

    The order of rows counts only where the reference orders. Column names do not count.
    """

    type: Literal["sql_result"]
    database: str = Field(min_length=1, max_length=100)
    timeout_s: Number = Field(default=2.0, gt=0, le=60)
    max_rows: Whole = Field(default=10_000, ge=1, le=1_000_000)


class CodeTestsGrader(GraderKind):
    """The answer is Python code, and the row's reference is tests of it: 1 where they run after it without an exception.

    Needs the sandbox (METEOR_SANDBOX). The code runs in the tests' own process, so code that is out to deceive them can.
    """

    type: Literal["code_tests"]
    timeout_s: Number = Field(default=5.0, gt=0, le=60)
    memory_mb: Whole = Field(default=512, ge=64, le=4096)


class PythonGrader(GraderKind):
    """OpenAI's python grader: `grade(sample, item)` of the source returns a number in [0, 1].

    sample["output_text"] is the answer, sample["output_json"] its JSON value; item has the row's question, reference and all
    further fields. Needs the sandbox (METEOR_SANDBOX). name and
    image_tag are kept and not used: the source runs in this installation's Python.
    """

    type: Literal["python"]
    source: str = Field(min_length=1, max_length=256_000)
    name: str | None = Field(default=None, max_length=200)
    image_tag: str | None = Field(default=None, max_length=100)
    timeout_s: Number = Field(default=5.0, gt=0, le=60)
    memory_mb: Whole = Field(default=512, ge=64, le=4096)


class TextPart(GraderKind):
    type: Literal["input_text", "output_text", "text"]
    text: Template


class GraderMessage(GraderKind):
    """OpenAI's message of a model grader, of text: its content is a template, or a list of them."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Template | TextPart | Annotated[list[Template | TextPart], Field(min_length=1, max_length=50)]
    type: Literal["message"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        content = value.get("content") if isinstance(value, dict) else None
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, dict) and part.get("type") in ("input_image", "input_audio"):
                raise ValueError(f"{part['type']}: graders read texts")
        return value

    @field_validator("content")
    @classmethod
    def _templates(cls, content: Any) -> Any:
        for part in content if isinstance(content, list) else [content]:
            checked_template(part.text if isinstance(part, TextPart) else part)
        return content

    @property
    def template(self) -> str:
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part.text if isinstance(part, TextPart) else part for part in parts)


class GraderSampling(GraderKind):
    """max_completions_tokens: as OpenAI spells it."""

    max_completions_tokens: Whole | None = Field(default=None, ge=1, le=32_768)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    seed: Whole | None = None
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, gt=0, le=1)


MODEL_TOKENS = 1024  # of a model grader's reply, where its sampling_params name no limit


class _AsksModel(GraderKind):
    name: str | None = Field(default=None, max_length=200)
    model: str = Field(min_length=1, max_length=200)
    input: list[GraderMessage] = Field(min_length=1, max_length=50)
    sampling_params: GraderSampling | None = None

    @property
    def templates(self) -> list[str]:
        return [message.template for message in self.input]

    @property
    def sampling(self) -> GraderSampling:
        return self.sampling_params or GraderSampling()

    @property
    def max_tokens(self) -> int:
        return self.sampling.max_completions_tokens or MODEL_TOKENS


class ScoreModelGrader(_AsksModel):
    """OpenAI's score_model: a model scores the answer in a range, which is brought to [0, 1] (formulas get the score itself).

    model: the name of a configured provider, or of its model.
    """

    type: Literal["score_model"]
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] = [0.0, 1.0]

    @field_validator("range")
    @classmethod
    def _from_low_to_high(cls, value: list[float]) -> list[float]:
        low, high = value
        if not low < high or high - low == float("inf"):
            raise ValueError("range has two numbers, the lower one first")
        return value


class LabelModelGrader(_AsksModel):
    """OpenAI's label_model: a model names one of the labels; 1 for those in passing_labels, else 0.

    model: the name of a configured provider, or of its model.
    """

    type: Literal["label_model"]
    labels: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(min_length=2, max_length=100)
    passing_labels: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _labels_that_there_are(self) -> "LabelModelGrader":
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: one stands there twice")
        if unknown := [label for label in self.passing_labels if label not in self.labels]:
            raise ValueError(f"passing_labels: {unknown[0]!r} is none of the labels")
        return self


class EndpointGrader(GraderKind):
    """The user's own HTTP service: POST {"attempts": [{"sample": {...}, "item": {...}}, ...]} -> {"scores": [a number from 0 to 1, or
    null where a row cannot be graded, ...]}, one for each attempt in their order.

    batch_size: attempts of one request. timeout_s: for a request, its answer included. Public addresses, and those that the operator
    allows (METEOR_GRADER_ALLOW).
    """

    type: Literal["endpoint"]
    url: str = Field(max_length=2000, pattern=r"^https?://[^\s@/?#]+(?:[/?][^\s#]*)?$")
    name: str | None = Field(default=None, max_length=200)
    batch_size: Whole = Field(default=32, ge=1, le=1000)
    timeout_s: Number = Field(default=30.0, gt=0, le=600)


PluginName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class PluginGrader(GraderKind):
    """A grader of another package, installed here under the entry point group `meteor.graders`, and allowed by METEOR_GRADERS.

    plugin: the entry point's name. settings: as that grader has them. version: of the package; where another one is installed the grader
    is refused. timeout_s: for an answer.
    """

    type: Literal["plugin"]
    plugin: PluginName
    settings: Json = {}
    version: str | None = Field(default=None, max_length=100)
    name: str | None = Field(default=None, max_length=200)
    timeout_s: Number = Field(default=10.0, gt=0, le=60)


class MultiGrader(GraderKind):
    """OpenAI's multi grader: a formula over the scores of others, by their names in `graders`; a single grader object there goes by
    its own name."""

    type: Literal["multi"]
    graders: dict[Annotated[str, Field(max_length=64)], "GivenGrader"] = Field(min_length=1, max_length=20)
    calculate_output: str = Field(min_length=1, max_length=LONGEST)
    name: str | None = Field(default=None, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """OpenAI's typed clients give one grader, which is none of several by name."""
        given = value.get("graders") if isinstance(value, dict) else None
        if (
            not isinstance(given, dict)
            or not isinstance(given.get("type"), str)
            or not isinstance(given.get("name"), str)
        ):
            return value
        return value | {"graders": {given["name"]: given}}

    @model_validator(mode="after")
    def _a_formula(self) -> "MultiGrader":
        if any(isinstance(grader, MultiGrader) for grader in self.graders.values()):
            raise ValueError("graders: a multi grader has none of its kind in it")
        try:
            checked(self.calculate_output, self.graders)
        except ValueError as error:
            raise ValueError(f"calculate_output: {error}") from None
        return self


VerifyingGrader = (
    StringCheckGrader
    | TextSimilarityGrader
    | NumberGrader
    | JsonEqualGrader
    | JsonSchemaGrader
    | RegexEqualGrader
    | SqlResultGrader
    | CodeTestsGrader
    | PythonGrader
    | MultiGrader
    | ScoreModelGrader
    | LabelModelGrader
    | EndpointGrader
    | PluginGrader
)
VerifyingKind = Annotated[VerifyingGrader, Field(discriminator="type")]


def _is_named(value: Any) -> str:
    return "object" if isinstance(value, dict | GraderKind) else "name"


# By its name, as one of the kinds that verify, or as OpenAI's grader object. One error for each mistake.
GivenGrader = Annotated[
    Annotated[Grader, Tag("name")] | Annotated[VerifyingKind, Tag("object")],
    Discriminator(_is_named),
    BeforeValidator(grader_name),
]
MultiGrader.model_rebuild()
# Those whose equality of two answers is one of their texts, or that have none of their own.
TEXT_KINDS = (
    PythonGrader, StringCheckGrader, TextSimilarityGrader, ScoreModelGrader, LabelModelGrader, EndpointGrader, PluginGrader,
)  # fmt: skip
UNGRADABLE = "reference"  # why a row has no score: its reference cannot be graded against
# Right or wrong; the others are similarities or numbers between.
BINARY_GRADERS = frozenset(
    {
        Grader.STRING_CHECK.value, Grader.FIRST_TOKEN.value, Grader.CONTAINS.value, *VERIFYING,
        *(f"string_check_{operation}" for operation in ("eq", "ne", "like", "ilike")),
    } - {"python", "multi", "score_model", "endpoint", "plugin"}
)  # fmt: skip


def name_of(grader: Grader | VerifyingGrader) -> str:
    """What a grader's scores are called in steps and reports. OpenAI's graders of texts are told from the named ones."""
    match grader:
        case Grader():
            return grader.value
        case StringCheckGrader():
            return f"{grader.type}_{grader.operation}"
        case TextSimilarityGrader():
            return f"{grader.type}_{grader.evaluation_metric}"
        case PluginGrader():
            return f"{grader.type}_{grader.plugin}"
        case _:
            return grader.type


def parts_of(grader: VerifyingGrader) -> list[VerifyingGrader]:
    """The grader and, of a formula, those that verify in it."""
    inside = grader.graders.values() if isinstance(grader, MultiGrader) else ()
    return [grader, *(part for part in inside if not isinstance(part, Grader))]


def reads_items(grader: Grader | VerifyingGrader) -> bool:
    """Whether it can read a row's further fields: a template names one, or code gets them all."""
    match grader:
        case Grader():
            return False
        case PythonGrader():
            return True
        case MultiGrader():
            return any(map(reads_items, grader.graders.values()))
        case _:
            paths = [path for template in grader.templates for path in places(template)]
            return any(path.startswith("item") and path not in OF_ROW for path in paths)


OF_ROW = ("item.reference", "item.question")


def reads_reference(grader: Grader | VerifyingGrader) -> bool:
    """Whether it compares with the record's `reference` by itself, without a template that says so."""
    match grader:
        case MultiGrader():
            return any(reads_reference(part) for part in grader.graders.values())
        case JsonSchemaGrader():
            return grader.of is None
        case PluginGrader():
            return True
        case _:
            return not isinstance(grader, TEXT_KINDS)


def file_ids(graders: Iterable[VerifyingGrader]) -> list[str]:
    """The ids of the uploaded files that graders read, each once."""
    parts = [part for grader in graders for part in parts_of(grader)]
    return sorted({part.database for part in parts if isinstance(part, SqlResultGrader)})


def models_of(grader: Grader | VerifyingGrader) -> list[ScoreModelGrader | LabelModelGrader]:
    """Those in it that ask a strong model."""
    parts = [] if isinstance(grader, Grader) else parts_of(grader)
    return [part for part in parts if isinstance(part, ScoreModelGrader | LabelModelGrader)]


def asks_elsewhere(grader: Grader | VerifyingGrader) -> bool:
    """Whether something else than this machine is asked."""
    parts = [] if isinstance(grader, Grader) else parts_of(grader)
    return any(isinstance(part, ScoreModelGrader | LabelModelGrader | EndpointGrader) for part in parts)
