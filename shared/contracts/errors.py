"""The three families of errors and OpenAI's error shape.

`UserError`: the caller's fault; never retried, never alerted.  `TransientError`: may succeed when tried again.
`FatalError`: retrying cannot help.  Others: shared/contracts/deterministic.py says whether they would come again.  To add one, subclass the family and set `code` (and `status` for a UserError);
each family has exactly one HTTP form, made by `shared.platform.http`.
"""

import errno
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from shared.contracts.masking import masked

Masked = Annotated[str, AfterValidator(masked)]


class ErrorItem(BaseModel):
    """One of several things that are wrong with a request, and how to mend it."""

    code: str
    param: str | None = None
    message: Masked
    remedy: str = ""


class ErrorBody(BaseModel):
    """The inside of `{"error": {...}}`: what went wrong, of which type, at which dotted field, with which code.

    errors: all of them where there are several; the message is then a numbered list, param and code are the first one's.
    """

    message: Masked
    type: str
    param: str | None = None
    code: str | None = None
    errors: list[ErrorItem] | None = Field(default=None, exclude_if=lambda errors: errors is None)


class ErrorResponse(BaseModel):
    """What every refused request is answered with."""

    error: ErrorBody


TYPE_OF_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    416: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


# A strong model's failure that is one row's fault -> what becomes of the row; other rows go on.
ROW_CODES = {"teacher_refused_row": "refused", "teacher_prompt_too_long": "too_long"}


class MeteorError(Exception):
    """Root of all errors that this project raises on purpose."""

    status = 500
    code = "server_error"
    should_retry: bool | None = None  # what clients are told of it; None: as they do by the status
    retry_after_s: int | None = None
    type: str | None = None  # where it is not the one that belongs to the status

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int | None = None):
        super().__init__(masked(message))
        self.message = masked(message)
        self.param = param
        self.code = code or self.code
        self.status = status or self.status

    def __reduce__(self):
        return _again, (type(self), self.args, self.__dict__)

    def body(self) -> ErrorBody:
        kind = self.type or TYPE_OF_STATUS.get(self.status, "server_error")
        return ErrorBody(message=self.message, type=kind, param=self.param, code=self.code)


def _again(kind: type[MeteorError], args: tuple, state: dict) -> MeteorError:
    """An error that another process has raised; not every kind's arguments are those of an exception."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UserError(MeteorError):
    """The request or the data is at fault; the message says what, where and how to mend it."""

    status = 400
    code = "invalid_request"


class NotFound(UserError):
    status = 404
    code = "not_found"


class Conflict(UserError):
    """The object is in a state that forbids the request; sent with `x-should-retry: false`."""

    status = 409
    code = "conflict"
    should_retry = False  # OpenAI's clients retry 409 otherwise


class StorageFull(UserError):
    """A file would take more room than the project's limit leaves. Not 429 as at OpenAI: trying again cannot help."""

    status = 413
    type = "insufficient_quota"
    code = "storage_limit_exceeded"


class BudgetExceeded(UserError):
    """The next call to a strong model might cost more than is left. A job pauses or fails of it, as its budget says.

    job_id: whose budget it is; None: the project's.
    """

    status = 402
    code = "budget_exceeded"

    def __init__(self, message: str, *, job_id: str | None = None):
        super().__init__(message, param="distillation.budget")
        self.job_id = job_id


class TransientError(MeteorError):
    """A part is missing or busy for now; the step is tried again up to its maximum of attempts."""

    status = 503
    code = "temporarily_unavailable"
    retry_after_s = 2


class DiskLow(TransientError):
    """Less room is left on a disk than is kept free. A step that meets it waits; nothing has failed."""

    code = "disk_low"
    retry_after_s = 30


class Postponed(TransientError):
    """The answer comes later, if it is asked for again then. A step that meets it rests; nothing has failed."""

    def __init__(self, message: str, *, again_in_s: float):
        super().__init__(message)
        self.again_in_s = again_in_s
        self.retry_after_s = max(1, round(again_in_s))


class BatchPending(Postponed):
    """The request is in a batch at the provider, whose answers come in minutes or hours."""

    code = "batch_pending"


class ProviderPaused(Postponed):
    """The provider limits the rate of calls, or the quota of a day is used up; the message says until when."""

    code = "teacher_rate_limited"


class RowRefused(UserError):
    """The provider takes this one request never, and others of the same job: its content is filtered, or it is too long.

    outcome: a value of ROW_CODES. The message holds the provider's own words.
    """

    def __init__(self, message: str, *, code: str, param: str | None = None):
        super().__init__(message, code=code, param=param)
        self.outcome = ROW_CODES[code]


class FatalError(MeteorError):
    """Trying again would fail the same way."""


class Cancelled(MeteorError):
    """The job was cancelled (or its step was taken over by a newer attempt) while this code ran."""

    status = 409
    code = "cancelled"


# no space left, no quota left, and a limit on the size of the process's files
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As PostgreSQL, SQLite, safetensors ("os error" is Rust's way to say it) and PyTorch put it.
DISK_FULL_WORDS = (
    "No space left on device",
    "disk is full",
    "File too large",
    "os error 28",
    "os error 27",
    "PytorchStreamWriter failed writing file",
)


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room for a file: by the system's number, or by the words of a library that hides it."""
    by_number = isinstance(error, OSError) and error.errno in DISK_FULL
    return by_number or any(words in str(error) for words in DISK_FULL_WORDS)


def as_body(error: BaseException) -> ErrorBody:
    """Any exception in the wire shape; unexpected ones keep their class name, never their traceback."""
    if isinstance(error, MeteorError):
        return error.body()
    if is_disk_full(error):
        return ErrorBody(message=f"no space left on the disk: {error}", type="server_error", code="disk_full")
    return ErrorBody(message=f"{type(error).__name__}: {error}", type="server_error", code="internal_error")
