"""Errors of the training process as one of the project's three families. Files that are gone are the supervisor's to find."""

import errno

from shared.contracts.deterministic import is_deterministic
from shared.contracts.errors import FatalError, MeteorError, TransientError, is_disk_full

# The last three: a library that could not be loaded, a thread without memory for its stack.
NO_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "not enough memory",
    "annot allocate memory",
    "failed to map segment",
    "can't start new thread",
)


def as_error(error: BaseException) -> MeteorError:
    """The error for the supervisor. Unexpected errors are fatal where they would come again, as everywhere in the system."""
    if isinstance(error, MeteorError):
        return error
    text = str(error)
    if is_out_of_memory(error):
        return out_of_memory()
    if is_disk_full(error):
        return TransientError("no space left on the disk of the data folder; free some", code="disk_full")
    family = FatalError if is_deterministic(error) else TransientError
    return family(f"{type(error).__name__}: {text[:500]}", code="training_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """As PyTorch, the system or a library says it."""
    if isinstance(error, MeteorError):
        return False
    told = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return told or any(sign in str(error) for sign in NO_MEMORY)


def out_of_memory(tried: str = "") -> FatalError:
    """tried: what was done about it."""
    return FatalError(
        f"not enough memory for this training{tried}; lower distillation.adapter.max_length (in phase 3 also "
        "distillation.evolve.search_batch or beam_width), ask for distillation.adapter.load_in_4bit, give the trainer a larger "
        "device, or raise METEOR_TRAINER_MEMORY_GB where it is set",
        code="out_of_memory",
    )
