"""Kinds of graders that other packages bring, by the entry point group `meteor.graders`.

An entry point names a class:

    class Levenshtein:
        class Settings(pydantic.BaseModel):
            ignore_case: bool = False

        def __init__(self, settings: Settings): ...
        def grade(self, sample: str, reference: str) -> float | None: ...

`grade` returns a number in [0, 1], or None where it cannot grade against this reference. Only the process behind bounded.py imports such
a class; everywhere else the metadata of the installed packages is read and nothing more.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ValidationError

from shared.contracts.grader_kinds import PluginGrader

GROUP = "meteor.graders"
NEEDS_SETTINGS = "it refuses its settings:"
LONGEST_WORDS = 500  # characters of what a package's code says


class PluginFailed(Exception):
    """The package's code raised, or returned what is no score."""


class PluginUnfit(Exception):
    """It is not installed, cannot be imported, or refuses its settings. The message says which, and how to mend it."""


class GraderPlugin(Protocol):
    """What an entry point's class makes of its settings."""

    def grade(self, sample: str, reference: str) -> float | None: ...


class Installed(NamedTuple):
    """An entry point of the group, by the metadata of its package."""

    name: str
    package: str
    version: str


def installed() -> list[Installed]:
    """All that there are, by name. Imports none of them."""
    return sorted(Installed(point.name, *_package(point)) for point in entry_points(group=GROUP))


def unfit(spec: PluginGrader, allowed: Iterable[str], there: Iterable[Installed] | None = None) -> str:
    """Why this grader cannot be used here as far as the metadata tells; "" where it can. allowed: names that the operator allows."""
    known = installed() if there is None else there
    ours = [one for one in known if one.name == spec.plugin]
    if spec.plugin not in set(allowed):
        return f"the operator allows no third-party grader {spec.plugin!r}: METEOR_GRADERS does not name it"
    if not ours:
        names = ", ".join(dict.fromkeys(one.name for one in known)) or "none"
        return f"no installed package has an entry point {spec.plugin!r} of the group {GROUP}; there are: {names}"
    if len(ours) > 1:
        return f"{spec.plugin!r} is an entry point of several packages: {', '.join(one.package for one in ours)}; uninstall all but one"
    if spec.version is not None and spec.version != ours[0].version:
        return f"{ours[0].package} is installed in version {ours[0].version}, not {spec.version}"
    return ""


def score_of(spec: PluginGrader) -> Callable[[str, str], float]:
    """The package's grader as a function of (answer, reference), which raises ValueError for a reference that it cannot grade against and
    PluginFailed. Runs the package's code. Raises PluginUnfit."""
    try:
        point = next(point for point in entry_points(group=GROUP) if point.name == spec.plugin)
    except StopIteration:
        raise PluginUnfit(f"no installed package has an entry point {spec.plugin!r} of the group {GROUP}") from None
    try:
        made: Any = point.load()
        kind: type[BaseModel] = made.Settings
        plugin: GraderPlugin = made(kind.model_validate(spec.settings))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise PluginUnfit(f"{NEEDS_SETTINGS} {field}: {first['msg']}") from None
    except Exception as error:  # a stranger's code may raise anything
        raise PluginUnfit(f"{point.value} cannot be used: {_words(error)}") from None
    if not callable(getattr(plugin, "grade", None)):
        raise PluginUnfit(f"{point.value} has no method grade(sample, reference)")
    return lambda answer, reference: _graded(plugin, answer, reference)


def _graded(plugin: GraderPlugin, answer: str, reference: str) -> float:
    try:
        score: Any = plugin.grade(answer, reference)
    except Exception as error:  # as above
        raise PluginFailed(_words(error)) from None
    if score is None:
        raise ValueError("the grader cannot grade against this reference")
    if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
        raise PluginFailed(f"grade returned {score!r:.100}, which is no number")
    return min(1.0, max(0.0, float(score)))


def _package(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("", "")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_WORDS]
