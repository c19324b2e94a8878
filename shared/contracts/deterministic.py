"""Which unexpected errors would occur again with the same input, so that the step is not tried again.

Errors of outside resources (files, sockets, databases, memory) may be gone a moment later; errors of the program on its input are not.
"""

# TypeError, KeyError, ... : the code and the data do not fit together.
KINDS = (
    TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError, NameError, ImportError, SyntaxError,
    NotImplementedError, RecursionError, StopIteration, StopAsyncIteration,
)  # fmt: skip
# Of libraries that this module does not import, by module and name: Jinja's templates, and what a database refuses.
NAMES = {
    "jinja2": {"TemplateError"},
    "sqlalchemy": {"IntegrityError", "DataError", "ProgrammingError", "CompileError"},
    "safetensors_rust": {"SafetensorError"},
    "pydantic_core": {"ValidationError"},
}
# PyTorch raises RuntimeError for almost everything; these are about shapes and types.
WORDS = (
    "shapes cannot be multiplied",
    "must match the size of tensor",
    "must match the existing size",
    "shape mismatch",
    "size mismatch",
    "is invalid for input of size",
    "expected scalar type",
    "expected all tensors to be on the same device",
    "not implemented for",
    "does not require grad",
    "error(s) in loading state_dict",
    "device-side assert",
    "out of bounds",
    "must be the same dtype",
)


def is_deterministic(error: BaseException) -> bool:
    """Of a group: whether any of its errors is."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_deterministic(inner) for inner in error.exceptions)
    if isinstance(error, OSError):  # among them certificates that are refused, which Python also calls a ValueError
        return isinstance(error, ValueError)
    if isinstance(error, KINDS) or any(_named(kind) for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


def _named(kind: type) -> bool:
    return kind.__name__ in NAMES.get(kind.__module__.partition(".")[0], ())
