"""Where a dataset can be made from, the import as users post and read it, and the rows of its steps."""

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, Field, model_validator

from shared.contracts.coverage import LEVELS, CoverageCell, CoveredCell, TopicName
from shared.contracts.distillation import NO_NUL, Budget, Name, Strict
from shared.contracts.errors import ErrorBody
from shared.contracts.estimate import Spend
from shared.contracts.file_reading import Mapping
from shared.contracts.jobs import AnyRequest, JobKind, JobProgress, JobStatus, Metadata, Usage
from shared.contracts.refusals import RefusedRow
from shared.contracts.steps import Wire

FileId = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_NUL)]
Short = Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)]


def _is_empty(columns: Mapping) -> bool:
    return not columns


COLUMNS = AliasChoices("mapping", "columns")  # as an upload calls it, and as the first version did


class ChatOptions(Strict):
    """A data file of any format and shape: JSONL, JSON, CSV, XLSX, Parquet; chat rows, questions and answers.

    mapping, skip_bad, member: as for an upload; without skip_bad a bad row fails the import. limit: the first so many rows.
    """

    type: Literal["chat", "file"] = "chat"
    columns: Mapping = Field(
        default={}, validation_alias=COLUMNS, exclude_if=_is_empty
    )  # excluded: hashes of before hold
    skip_bad: bool = Field(default=False, exclude_if=lambda skip: not skip)
    member: str = Field(default="", max_length=500, pattern=NO_NUL, exclude_if=lambda name: not name)
    limit: int | None = Field(default=None, ge=1, le=1_000_000, exclude_if=lambda limit: limit is None)


class StackExchangeOptions(Strict):
    """Posts.xml of a Stack Exchange site, plain or zipped. preset "paper": the four fields of METEOR's paper.

    limit: the number of questions, highest scored first. A question's category is the first of `tags` that it has. site: without it, that of the
    file's name, such as stats.stackexchange.com.zip.
    """

    type: Literal["stackexchange"] = "stackexchange"
    site: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$", description="for the links")
    preset: Literal["paper"] | None = None
    tags: list[Short] = Field(default=[], max_length=100)
    min_score: int = Field(default=1, ge=-(2**31), lt=2**31)
    min_answer_score: int = Field(default=0, ge=-(2**31), lt=2**31)
    limit: int | None = Field(default=None, ge=1, le=1_000_000)


class HubOptions(Strict):
    """A dataset of the Hugging Face hub: its data files of any format, never its code.

    mapping: as for an upload. skip_bad: bad rows are left out and counted, since they can hardly be mended; false: one of them fails the import.
    """

    type: Literal["hub"] = "hub"
    dataset: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$")
    revision: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")
    config: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="a folder of it")
    split: str = Field(default="train", pattern=r"^[A-Za-z0-9_]{1,50}$")
    columns: Mapping = Field(default={}, validation_alias=COLUMNS)
    skip_bad: bool = Field(default=True, exclude_if=bool)
    limit: int | None = Field(default=None, ge=1, le=1_000_000)


class DocumentsOptions(Strict):
    """Documents (PDF, DOCX, HTML, Markdown or text: one, or a zip of many) from which a strong model writes questions, with the
    passage as reference.

    questions: as many as there may be in the end, balanced over the documents; per_passage: asked for at once.
    """

    type: Literal["documents"] = "documents"
    domain: str = Field(min_length=1, max_length=500)
    questions: int = Field(default=200, ge=1, le=20_000)
    per_passage: int = Field(default=3, ge=1, le=10)
    provider: Name = Field(default="default", description="the strong model that writes them")
    max_tokens: int = Field(default=512, ge=16, le=8192, description="of one reply")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class GenerateOptions(Strict):
    """Questions that a strong model writes where there are none: topics first, then questions of each topic at each level.

    topics: without any the model proposes topic_count of them. levels: difficulties, or kinds of questions. coverage: the map
    itself; where it is not given the import makes it, and shows it here. review: pause with the map before questions are paid for.
    material: what the import's file holds: documents to write questions about, or `log`: a data file of questions that a model
    answered badly, whose likes are wanted. labels: the questions of the project's labels are such a log too. per_call: questions
    asked for at once.
    """

    type: Literal["generate"] = "generate"
    domain: str = Field(min_length=1, max_length=500, pattern=NO_NUL)
    count: int = Field(default=200, ge=1, le=5_000)
    topics: list[TopicName] = Field(default=[], max_length=200)
    topic_count: int = Field(default=12, ge=1, le=200)
    levels: list[TopicName] = Field(default=LEVELS, min_length=1, max_length=10)
    coverage: list[CoverageCell] | None = Field(default=None, min_length=1, max_length=2_000)
    review: bool = False
    material: Literal["documents", "log"] = "documents"
    labels: bool = False
    provider: Name = Field(default="default", description="the strong model that writes them")
    per_call: int = Field(default=10, ge=1, le=50)
    max_tokens: int = Field(default=1024, ge=16, le=8192, description="of one reply")
    temperature: float = Field(default=0.8, ge=0, le=2)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _map_is_one(self) -> "GenerateOptions":
        if self.coverage is not None:
            check_map(self.coverage)
        for name, given in (("topics", self.topics), ("levels", self.levels)):
            if len({one.casefold() for one in given}) < len(given):
                raise ValueError(f"{name} names one of them twice")
        return self


def check_map(cells: list[CoverageCell]) -> None:
    """Raises ValueError for a coverage map that names a cell twice or asks for nothing."""
    if len({(cell.topic, cell.level) for cell in cells}) < len(cells):
        raise ValueError("the coverage map names a topic twice at one level")
    if not 1 <= sum(cell.questions for cell in cells) <= MOST_GENERATED:
        raise ValueError(f"a coverage map asks for 1 to {MOST_GENERATED} questions in all")


class CompletionsOptions(Strict):
    """The project's stored chats that were answered before the import was posted. Corrected answers become references.

    model: an alias or a base, or alias@version. metadata: pairs that a chat must have. feedback: chats with one of these; empty: all.
    agreement_below: chats with several choices of which a smaller share says the same. since, until: Unix seconds. approved: answers
    with a thumb up become references too. limit: the newest so many. dataset: any version of one; the rows become its next version,
    without questions that it has, and a correction replaces the row of its question.
    """

    type: Literal["completions"] = "completions"
    model: str | None = Field(default=None, min_length=1, max_length=200, pattern=NO_NUL)
    metadata: Metadata | None = None
    feedback: list[Literal["up", "down", "corrected", "none"]] = Field(default=[], max_length=4)
    agreement_below: float | None = Field(default=None, gt=0, le=1)
    since: int | None = Field(default=None, ge=0, le=2**40)
    until: int | None = Field(default=None, ge=0, le=2**40)
    approved: bool = False
    limit: int | None = Field(default=None, ge=1, le=100_000)
    dataset: FileId | None = None

    @model_validator(mode="after")
    def _spans_some_time(self) -> "CompletionsOptions":
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError("until must lie behind since")
        return self


MOST_GENERATED = 5_000
Source = Annotated[
    ChatOptions | StackExchangeOptions | HubOptions | DocumentsOptions | GenerateOptions | CompletionsOptions,
    Field(discriminator="type"),
]
NOTHING_TO_IMPORT = "nothing_to_import"  # the code of an import that found no row
MOST_ROWS = 100_000  # of one import job: its result travels as one piece


class ImportRequest(Strict):
    """Body of POST /v1/imports. file: raw material (purpose user_data) that the source is read from; the hub and
    stored chats need none, and `generate` may have one. mask: personal data is masked in rows, and in passages before a strong model sees them."""

    source: Source
    file: FileId | None = None
    mask: bool = False
    budget: Budget = Budget()
    metadata: Metadata = Field(default={})


class OfRecipe(BaseModel):
    """A run of a recipe."""

    id: str
    run: int


class ImportJob(AnyRequest):
    """What is kept of it: with the file's content and name, and how the project's uploads are split.

    recipe: the run whose chats are imported. learned: datasets that the recipe's model learned from. max_rows: of a dataset.
    """

    kind = JobKind.IMPORT
    source: Source
    file: str | None
    mask: bool = False
    sha256: str | None
    filename: str
    budget: Budget
    metadata: Metadata
    dev_share: float
    test_share: float
    max_rows: int = 1_000_000
    recipe: OfRecipe | None = None
    learned: list[str] = Field(default=[])

    @property
    def reads(self) -> str | None:
        return self.file


class ImportChange(Strict):
    """Body of PATCH /v1/imports/{id}. budget: what it leaves out stays as it is, null takes a limit away. coverage: another map, while
    the import waits with its map for a review."""

    budget: Budget = Budget()
    coverage: list[CoverageCell] | None = Field(default=None, min_length=1, max_length=2_000)

    @model_validator(mode="after")
    def _changes_something(self) -> "ImportChange":
        if not self.model_fields_set:
            raise ValueError("name what changes: budget or coverage")
        if self.coverage is not None:
            check_map(self.coverage)
        return self


class ImportResult(BaseModel):
    """file: the dataset that was made. rows: of all of it. added, replaced: of the version before; a correction replaces a row. references: rows with a reference answer. left_out: what was not taken, by reason. refused:
    passages that the provider always refused. coverage: of generated questions, how many each cell of the map has. shortfall:
    questions that the map wants and nobody wrote. masked: personal data that was masked, by kind."""

    file: str
    rows: int
    added: int = 0
    replaced: int = 0
    references: int = 0
    left_out: dict[str, int]
    refused: list[RefusedRow] = []
    coverage: list[CoveredCell] = []
    shortfall: int = 0
    masked: dict[str, int] = {}


class ImportObject(BaseModel):
    """An import and where it stands. result: once it has succeeded. estimate: of generated questions, what asking for them comes to
    (calls, tokens, USD), by the prices of the time when it was posted."""

    id: str
    object: Literal["import"] = "import"
    created_at: int
    finished_at: int | None = None
    status: JobStatus
    status_reason: str | None = None
    source: Source
    file: str | None = None
    mask: bool = False
    progress: JobProgress = JobProgress()
    usage: Usage = Usage()
    estimate: Spend | None = None
    budget: Budget = Budget()
    metadata: dict[str, str] = {}
    error: ErrorBody | None = None
    result: ImportResult | None = None


class ImportEstimate(BaseModel):
    """What an import would ask of strong models, before it is posted: calls, tokens and USD as ranges.

    strong_model: None for documents, whose passages are not known before they are read; nothing for a source that is converted without
    a model.
    """

    object: Literal["import.estimate"] = "import.estimate"
    strong_model: Spend | None


class ReadParams(Wire):
    """For strong.read: what is read, out of which content. Of documents passages come back, of all else rows."""

    source: Source
    sha256: str | None
    name: str = Field(default="", exclude_if=lambda name: not name, description="of the file; for documents")
    mask: bool = Field(default=False, exclude_if=lambda mask: not mask)


class AskParams(Wire):
    """For strong.ask: how questions are written from passages."""

    teacher: str
    domain: str
    per_passage: int
    max_tokens: int
    seed: int


class Passage(Wire):
    """A part of a document. id: document and number. heading: what it stands under: titles, and the header of a table that is cut."""

    id: str
    document: str
    text: str
    heading: str = Field(default="", exclude_if=lambda heading: not heading)

    @property
    def shown(self) -> str:
        """What a model is shown of it."""
        return f"{self.heading}\n\n{self.text}" if self.heading else self.text


class Written(Wire):
    """The questions that a passage answers. dropped: those that it does not answer, or that cannot be asked without it.

    unparsed: no question could be read in the reply; why: what was the matter with it. unchecked: questions of `dropped` whose
    check brought neither yes nor no.
    """

    id: str
    questions: list[str]
    dropped: int = 0
    unparsed: bool = False
    why: Literal["cut_off", "empty", "unreadable"] | None = None
    unchecked: int = 0
