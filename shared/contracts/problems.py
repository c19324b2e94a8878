"""Problems: all that is wrong with a request, told in one answer."""

from collections.abc import Iterable, Sequence
from typing import Literal

from shared.contracts.errors import TYPE_OF_STATUS, ErrorBody, ErrorItem, UserError

MOST_TOLD = 50  # problems that one answer lists


class Problem(ErrorItem):
    """One thing that is wrong: what (message), at which dotted field (param), and how to mend it (remedy).

    level: a warning is told and hinders nothing. status: of the answer, where this problem comes first.
    """

    level: Literal["error", "warning"] = "error"
    status: int = 400

    @classmethod
    def of(cls, error: UserError) -> "Problem":
        return cls(code=error.code, param=error.param, message=error.message, status=error.status)

    @property
    def text(self) -> str:
        """What and how to mend it, as one sentence."""
        return "; ".join(part for part in (self.message, self.remedy) if part)

    @property
    def is_error(self) -> bool:
        return self.level == "error"


def warning(code: str, message: str, remedy: str = "", param: str | None = None) -> Problem:
    return Problem(code=code, param=param, message=message, remedy=remedy, level="warning")


class Refused(UserError):
    """A request with these problems, at least one. Code, param and status are the first one's."""

    def __init__(self, problems: Sequence[Problem]):
        first = problems[0]
        super().__init__(numbered(problems), param=first.param, code=first.code, status=first.status)
        self.problems = list(problems)

    def body(self) -> ErrorBody:
        return body_of(self.problems, self.status)


def numbered(problems: Sequence[Problem]) -> str:
    """The one problem's own text, or a numbered list."""
    if len(problems) == 1:
        return problems[0].text
    lines = [f"{number}. {problem.text}" for number, problem in enumerate(problems[:MOST_TOLD], start=1)]
    more = [f"and {len(problems) - MOST_TOLD} more"] if problems[MOST_TOLD:] else []
    return "\n".join([f"{len(problems)} problems:", *lines, *more])


def body_of(problems: Sequence[Problem], status: int) -> ErrorBody:
    """The error in OpenAI's shape. `errors` stands beside where there are several."""
    first = problems[0]
    return ErrorBody(
        message=numbered(problems),
        type=TYPE_OF_STATUS.get(status, "invalid_request_error"),
        param=first.param,
        code=first.code,
        errors=list(problems[:MOST_TOLD]) if len(problems) > 1 else None,
    )


def refuse(problems: Iterable[Problem]) -> None:
    """Raises Refused with those that are errors, if there are any."""
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        raise Refused(errors)
