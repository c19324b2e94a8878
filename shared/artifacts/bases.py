"""The weak models of a deployment: which bases a job may name, where their folders are, and their content hashes.

METEOR_STUDENT_MODEL and METEOR_STUDENT_PATH name the first one, which is the default; METEOR_STUDENTS names more of them.
METEOR_STUDENT_TEMPLATE and METEOR_STUDENT_TEMPLATE_ARGS say how they are prompted, where that is not found in their folders.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.artifacts.chat_templates import read_prompts
from shared.artifacts.folders import hash_folder
from shared.artifacts.template_text import renders_tools, template_text
from shared.contracts.errors import FatalError, UserError
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.steps import ModelRef, content_hash

DEFAULT = ""  # in the settings of templates: the default student


class Base(NamedTuple):
    """folder: None for a model that the user's own server serves under this name."""

    name: str
    folder: Path | None


class Bases(BaseSettings):
    """METEOR_STUDENTS: `name=folder,name=folder`, in addition to the default student."""

    model_config = SettingsConfigDict(
        env_prefix="METEOR_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    student_model: str = Field(
        default="smollm2-135m-instruct", min_length=1, validation_alias=AliasChoices("METEOR_STUDENT_MODEL")
    )
    student_path: Path | None = Field(default=None, validation_alias=AliasChoices("METEOR_STUDENT_PATH"))
    students: Annotated[dict[str, Path], NoDecode] = Field(default={}, validation_alias=AliasChoices("METEOR_STUDENTS"))

    student_template: Annotated[dict[str, Path], NoDecode] = Field(
        default={}, validation_alias=AliasChoices("METEOR_STUDENT_TEMPLATE")
    )
    student_template_args: Annotated[dict[str, Any], NoDecode] = Field(
        default={}, validation_alias=AliasChoices("METEOR_STUDENT_TEMPLATE_ARGS")
    )

    @field_validator("students", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return parse(value) if isinstance(value, str) else value

    @field_validator("student_template", mode="before")
    @classmethod
    def _templates(cls, value: object) -> object:
        """One file is the default student's."""
        if not isinstance(value, str):
            return value
        return parse(value) if "=" in value else {DEFAULT: value} if value.strip() else {}

    @field_validator("student_template_args", mode="before")
    @classmethod
    def _arguments(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f'write a JSON object, such as {{"enable_thinking": false}}: {error}') from error

    @property
    def default(self) -> Base:
        return Base(self.student_model, self.student_path)

    def all(self) -> list[Base]:
        """The default first, then the others in their order."""
        others = [Base(name, folder) for name, folder in self.students.items() if name != self.student_model]
        return [self.default, *others]

    def find(self, name: str) -> Base | None:
        return next((base for base in self.all() if base.name == name), None)

    def prompts(self, name: str, folder: Path | None = None, steps_only: bool = False) -> PromptProfile | None:
        """How a base must be prompted; None: its own template does, or its folder is unknown. Raises UserError with the remedy.

        folder: of the base, where the settings do not name it.
        """
        base = self.find(name)
        folder = folder or (base.folder if base else None)
        if folder is None:
            return None
        key = DEFAULT if name == self.student_model and name not in self.student_template else name
        return read_prompts(folder, self.student_template.get(key), self._template_args(name), steps_only)

    def template(self, name: str) -> str | None:
        """The text of the chat template that a base is prompted with; None where it is unknown."""
        base = self.find(name)
        if base is None or base.folder is None:
            return None
        try:
            profile = self.prompts(name)
        except UserError:  # said where a job or the engine needs it
            profile = None
        return (profile.template if profile else None) or template_text(base.folder)

    def shows_calls(self, name: str) -> bool:
        """Whether a base's chat template shows the calls and results of tools itself; else they are shown to it in words."""
        return renders_tools(self.template(name))

    def _template_args(self, name: str) -> dict[str, Any]:
        """Those under the base's name, else those that are under no base's name, for the default student."""
        names = {base.name for base in self.all()}
        own = self.student_template_args.get(name)
        if isinstance(own, dict):
            return own
        if name != self.student_model:
            return {}
        return {key: value for key, value in self.student_template_args.items() if key not in names}

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

    def ref(self, name: str, conversations: bool = False) -> ModelRef:
        """The base model. conversations: it is prompted with more than a question, so that turns of one role may follow each other
        (else the profile leaves out what only they need, and older steps keep their hashes). Without a folder its name replaces the content hash. Raises FatalError, or UserError for a chat
        template that cannot be used."""
        base = self.find(name)
        if base is None:
            raise FatalError(f"the student {name!r} is no longer configured", param="model", code="wrong_student")
        return ModelRef(
            base=name,
            base_hash=hash_once(base.folder) if base.folder is not None else content_hash(base.name),
            prompts=self.prompts(name, steps_only=not conversations),
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
