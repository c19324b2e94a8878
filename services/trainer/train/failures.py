"""What went wrong in the training process, in the project's three families of errors."""

import errno

from shared.contracts.errors import DISK_FULL, FatalError, MeteorError, TransientError

NO_SPACE = (
    "No space left on device",
    "File too large",
    "os error 28",
    "os error 27",
    "PytorchStreamWriter failed writing file",
)
# The last two: a library that could not be loaded for want of memory.
NO_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "not enough memory",
    "annot allocate memory",
    "failed to map segment",
)


def as_error(error: BaseException) -> MeteorError:
    """The same error for the supervisor. Unexpected ones may be tried again, as everywhere in the system."""
    if isinstance(error, MeteorError):
        return error
    text = str(error)
    short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if short or any(sign in text for sign in NO_MEMORY):
        return FatalError(
            "not enough memory for this training; lower hyperparameters.batch_size or distillation.adapter.max_length, "
            "or give the trainer a larger device",
            code="out_of_memory",
        )
    full = isinstance(error, OSError) and error.errno in DISK_FULL
    if full or any(sign in text for sign in NO_SPACE):
        return TransientError("no space left on the disk of the data folder; free some", code="disk_full")
    return TransientError(f"{type(error).__name__}: {text[:500]}", code="training_failed")
