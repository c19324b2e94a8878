"""The wire between the trainer's worker and its training process: one JSON file in, JSON lines out. No model library."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from shared.contracts.errors import DiskLow, FatalError, MeteorError, TransientError, UserError
from shared.contracts.steps import StepKind, Wire

Metrics = dict[str, Any]  # numbers and names, by kind


class Spec(Wire):
    """What one training process does. params and rows: of the kind, see the registry of step kinds.

    processes: that train together, of an SFT or DPO; others have one. padding_free: None where flash-attn is installed. fsdp: None where a
    copy of the base for each process does not fit. output receives `adapter/` or `weights/` and `curve.json`, or `rows.json`; checkpoints survives a crash.
    """

    kind: StepKind
    params: dict[str, Any]
    rows: list[dict[str, Any]]
    base: Path
    adapter: Path | None
    output: Path
    checkpoints: Path
    checkpoint_every_s: float = 60.0
    checkpoint_steps: int = 0
    threads: int = 0
    processes: int = 1
    padding_free: bool | None = None
    fsdp: bool | None = None
    memory_gb: float | None = None


class Tick(Wire):
    """Progress. done and total count optimiser steps (training) or rows (search, score, merge)."""

    type: Literal["tick"] = "tick"
    done: int
    total: int
    eta_s: float | None = None
    metrics: dict[str, float] = Field(default={})


class Done(Wire):
    """The last line of a process that succeeded."""

    type: Literal["done"] = "done"
    metrics: Metrics


class Failed(Wire):
    """The last line of a process that failed with a known error. family: as in shared.contracts.errors."""

    type: Literal["failed"] = "failed"
    family: Literal["user", "transient", "fatal"]
    code: str
    message: str
    param: str | None = None

    @classmethod
    def of(cls, error: MeteorError) -> "Failed":
        family = "user" if isinstance(error, UserError) else "fatal"
        family = "transient" if isinstance(error, TransientError) else family
        return cls(family=family, code=error.code, message=error.message, param=error.param)

    def error(self) -> MeteorError:
        """The same error, to be raised by who supervises."""
        if self.code == DiskLow.code:
            return DiskLow(self.message)
        families: dict[str, type[MeteorError]] = {"user": UserError, "transient": TransientError, "fatal": FatalError}
        return families[self.family](self.message, code=self.code, param=self.param)


Message = Annotated[Tick | Done | Failed, Field(discriminator="type")]
MESSAGE: TypeAdapter[Tick | Done | Failed] = TypeAdapter(Message)
