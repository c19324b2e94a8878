"""The weak models of a deployment: which bases a job may name, where their folders are, and their content hashes.

METEOR_STUDENT_MODEL and METEOR_STUDENT_PATH name the first one, which is the default; METEOR_STUDENTS names more of them.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.artifacts.store import hash_folder
from shared.contracts.errors import FatalError
from shared.contracts.steps import ModelRef, content_hash


class Base(NamedTuple):
    """folder: None for a model that the user's own server serves under this name."""

    name: str
    folder: Path | None


class Bases(BaseSettings):
    """METEOR_STUDENTS: `name=folder,name=folder`, in addition to the default student."""

    model_config = SettingsConfigDict(env_prefix="METEOR_", extra="ignore", populate_by_name=True)

    student_model: str = Field(
        default="smollm2-135m-instruct", min_length=1, validation_alias=AliasChoices("METEOR_STUDENT_MODEL")
    )
    student_path: Path | None = Field(default=None, validation_alias=AliasChoices("METEOR_STUDENT_PATH"))
    students: Annotated[dict[str, Path], NoDecode] = Field(default={}, validation_alias=AliasChoices("METEOR_STUDENTS"))

    @field_validator("students", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return parse(value) if isinstance(value, str) else value

    @property
    def default(self) -> Base:
        return Base(self.student_model, self.student_path)

    def all(self) -> list[Base]:
        """The default first, then the others in their order."""
        others = [Base(name, folder) for name, folder in self.students.items() if name != self.student_model]
        return [self.default, *others]

    def find(self, name: str) -> Base | None:
        return next((base for base in self.all() if base.name == name), None)

    def folder(self, ref: ModelRef) -> Path:
        """The folder of a base's weights. Raises FatalError if it is unknown or its content has changed."""
        base = self.find(ref.base)
        if base is None:
            known = ", ".join(repr(other.name) for other in self.all())
            raise FatalError(f"the job asks for {ref.base!r}, this process knows {known}", code="wrong_student")
        if base.folder is None:
            raise FatalError(f"the folder of {base.name!r} is not known: set METEOR_STUDENT_PATH", code="no_student")
        if ref.base_hash not in (content_hash(base.name), hash_once(base.folder)):  # the first: a base without a folder
            raise FatalError(
                f"{base.folder} holds other files than {base.name!r} had when the job began", code="wrong_student"
            )
        return base.folder

    def ref(self, name: str) -> ModelRef:
        """The base model. Without a folder its name replaces the content hash. Raises FatalError."""
        base = self.find(name)
        if base is None:
            raise FatalError(f"the student {name!r} is no longer configured", param="model", code="wrong_student")
        return ModelRef(
            base=name, base_hash=hash_once(base.folder) if base.folder is not None else content_hash(base.name)
        )


@cache
def hash_once(folder: Path) -> str:
    """Hash once per process: a base has gigabytes and does not change while the system runs."""
    return hash_folder(folder)


def parse(text: str) -> dict[str, str]:
    """`name=folder,...` -> folder by name. Raises ValueError."""
    folders: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, folder = (part.strip() for part in item.partition("="))
        if not (name and equals and folder):
            raise ValueError(f"write name=folder, separated by commas, not {item!r}")
        if name in folders:
            raise ValueError(f"{name!r} is named twice")
        folders[name] = folder
    return folders
