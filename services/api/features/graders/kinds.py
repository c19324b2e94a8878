"""The kinds of graders that this installation has: its own, and those of other packages by their metadata."""

from typing import get_args

from services.api.context import ProjectContext
from shared.contracts.grader_kinds import Grader, PluginGrader, VerifyingGrader
from shared.contracts.grader_runs import GraderKindObject
from shared.contracts.graders import TEMPLATED
from shared.contracts.views import Listed
from shared.grading.plugins import installed, unfit
from shared.sandbox.confine import missing

RUN_CODE = ("python", "code_tests")


def page(context: ProjectContext) -> Listed[GraderKindObject]:
    kinds = [*_named(), *_own(context), *_of_packages(context)]
    return Listed[GraderKindObject](data=kinds, first_id=kinds[0].id, last_id=kinds[-1].id, has_more=False)


def _named() -> list[GraderKindObject]:
    """Those that have no settings."""
    return [GraderKindObject(id=grader.value, settings=[]) for grader in Grader if grader not in TEMPLATED]


def _own(context: ProjectContext) -> list[GraderKindObject]:
    off = "" if context.platform.sandbox else "METEOR_SANDBOX is off"
    lacks = off or (f"this machine lacks {', '.join(missing())}" if missing() else "")
    kinds: list[GraderKindObject] = []
    for kind in get_args(VerifyingGrader):
        (name,) = get_args(kind.model_fields["type"].annotation)
        if kind is PluginGrader:
            continue
        fields = [field.alias or given for given, field in kind.model_fields.items() if given != "type"]
        why = lacks if name in RUN_CODE else ""
        kinds.append(GraderKindObject(id=name, settings=fields, available=not why, unavailable_because=why or None))
    return kinds


def _of_packages(context: ProjectContext) -> list[GraderKindObject]:
    there = installed()
    kinds: list[GraderKindObject] = []
    for one in there:
        why = unfit(PluginGrader(type="plugin", plugin=one.name), context.platform.grader_plugins, there)
        kinds.append(
            GraderKindObject(
                id=one.name,
                type="plugin",
                package=one.package,
                version=one.version,
                available=not why,
                unavailable_because=why or None,
            )
        )
    return kinds
