"""An error that would come again from the same input is not tried again. A case is a line."""

import errno
import json
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import jinja2
import pydantic
import pytest
import redis
import sqlalchemy.exc

from services.trainer.train.failures import as_error
from shared.contracts.deterministic import is_deterministic
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.jobs.states import StepState
from shared.queue.step_task import StepRunner


class Strict(pydantic.BaseModel):
    number: int


def refused() -> Exception:
    with pytest.raises(pydantic.ValidationError) as error:
        Strict.model_validate({"number": "x"})
    return error.value


AGAIN = [
    TypeError("'NoneType' object is not subscriptable"),
    ValueError("bad"),
    KeyError("choices"),
    IndexError("list index out of range"),
    AttributeError("no attribute"),
    AssertionError(),
    ZeroDivisionError(),
    OverflowError(),
    NameError("x"),
    ImportError("no module"),
    ModuleNotFoundError("torchvision"),
    NotImplementedError("no attention for this model"),
    RecursionError("too deep"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    json.JSONDecodeError("Expecting value", "", 0),
    refused(),
    jinja2.TemplateError("System role not supported"),
    jinja2.TemplateSyntaxError("unexpected tag", 1),
    jinja2.UndefinedError("'x' is undefined"),
    sqlalchemy.exc.IntegrityError("insert", {}, Exception()),
    sqlalchemy.exc.DataError("insert", {}, Exception()),
    ssl.SSLCertVerificationError("self-signed certificate"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("The size of tensor a (512) must match the size of tensor b (8192) at non-singleton dimension 1"),
    RuntimeError("Error(s) in loading state_dict for LlamaForCausalLM: size mismatch for lm_head.weight"),
    RuntimeError("expected scalar type BFloat16 but found Float"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'"),
    ExceptionGroup("rows", [TimeoutError(), KeyError("choices")]),
]
MAY_PASS = [
    OSError(errno.EIO, "input/output error"),
    FileNotFoundError("model.safetensors"),
    ConnectionResetError(),
    TimeoutError(),
    TimeoutError(),
    EOFError(),
    MemoryError(),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("can't start new thread"),
    httpx.ReadTimeout(""),
    httpx.ConnectError(""),
    redis.ConnectionError(),
    sqlalchemy.exc.OperationalError("select", {}, Exception()),
    Exception("who knows"),
    ExceptionGroup("rows", [TimeoutError(), ConnectionResetError()]),
]
CASES = [(error, True) for error in AGAIN] + [(error, False) for error in MAY_PASS]


@pytest.mark.parametrize(("error", "again"), CASES, ids=[type(error).__name__ for error, _ in CASES])
def test_which_errors_would_come_again(error: Exception, again: bool):
    assert is_deterministic(error) is again


class Steps:
    """Remembers whether the step may be tried again."""

    def fail(self, claim: Any, body: Any, again: bool, limit: int) -> StepState:
        self.again = again
        return StepState.QUEUED if again else StepState.FAILED


class Runner(StepRunner):
    """Without a database."""

    kept: Any

    @property
    def stores(self) -> Any:
        return self.kept

    def _persist(self, write: Callable[[], Any]) -> Any:
        return write()


@pytest.mark.parametrize(
    ("error", "tried_again"),
    [
        (UserError("a"), False),
        (FatalError("a"), False),
        (TransientError("a"), True),
        *((error, not again) for error, again in CASES),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_step_is_tried_again_only_where_that_may_help(error: Exception, tried_again: bool):
    steps = Steps()
    runner: Any = object.__new__(Runner)
    runner.settings = SimpleNamespace(max_attempts=4)
    runner.kept = SimpleNamespace(steps=steps)
    context: Any = SimpleNamespace(claim=SimpleNamespace(key="k", attempt=1), clear_scratch=lambda: None)
    runner._failed(context, error)
    assert steps.again is tried_again


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), FatalError),
        (KeyError("adapter"), FatalError),
        (jinja2.TemplateError("roles must alternate"), FatalError),
        (RuntimeError("CUDA error: unspecified launch failure"), TransientError),
        (OSError(errno.ENOSPC, "no space"), TransientError),
        (MemoryError(), FatalError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_training_that_would_fail_again_is_told_as_fatal(error: Exception, family: type[Exception]):
    assert isinstance(as_error(error), family)
