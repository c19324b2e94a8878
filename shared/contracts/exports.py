"""An export: files made of one version, to be loaded elsewhere. Bodies, stored request and object."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from shared.contracts.distillation import Strict
from shared.contracts.errors import ErrorBody
from shared.contracts.jobs import AnyRequest, JobKind, JobProgress, JobStatus, Named
from shared.contracts.json_types import Json

README, MANIFEST = "README.md", "manifest.json"


class ExportFormat(StrEnum):
    ADAPTER = "adapter"  # PEFT: adapter_model.safetensors, adapter_config.json
    MERGED = "merged"  # a whole model's folder: safetensors, configuration, tokenizer
    GGUF = "gguf"  # one file for llama.cpp and what stands on it


class Push(Strict):
    """Where on a model hub the files go. private: only for a repository that is new."""

    repo: str = Field(max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    private: bool = True


Formats = Annotated[list[ExportFormat], Field(min_length=1, max_length=len(ExportFormat))]


class ExportWish(Strict):
    """Body of POST /v1/models/{id}/export."""

    formats: Formats
    push: Push | None = None

    @field_validator("formats")
    @classmethod
    def _each_once(cls, value: list[ExportFormat]) -> list[ExportFormat]:
        if len(set(value)) < len(value):
            raise ValueError("name each format once")
        return value


class ExportRequest(AnyRequest):
    """What an export's job is asked for. model: alias@version as it was then; model_id: that version's row."""

    kind = JobKind.EXPORT
    model: str
    model_id: str
    formats: Formats
    push: Push | None = None

    @property
    def names(self) -> Named:
        return Named(model=self.model_id)


class Download(BaseModel):
    """One thing to fetch. format: None for the model card and the manifest. sha256: of its bytes."""

    name: str
    format: ExportFormat | None
    bytes: int
    sha256: str


class ExportIndex(BaseModel):
    """What an export is put together from, kept as an artifact. top: the folder's name inside the archives; folders: by
    format the content hash of the files; manifest and card stand in every archive."""

    top: str
    folders: dict[ExportFormat, str]
    readme: str
    manifest: Json
    downloads: list[Download] = []


class ExportFile(Download):
    """url: a path of the API; it takes ranges."""

    url: str


class ExportObject(BaseModel):
    """`model.export`. parity: how base plus adapter, merged and served model compare; pushed: where on the hub it is."""

    id: str
    object: Literal["model.export"] = "model.export"
    created_at: int
    finished_at: int | None = None
    model: str
    formats: Formats
    push: Push | None = None
    status: JobStatus
    status_reason: str | None = None
    progress: JobProgress = JobProgress()
    error: ErrorBody | None = None
    result: list[ExportFile] | None = None
    parity: Json | None = None
    pushed: str | None = None
