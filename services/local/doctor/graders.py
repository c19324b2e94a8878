"""Graders that other packages bring: which are installed, which the operator allows, and whether those can be imported."""

from collections.abc import Iterator

from services.local.doctor.finding import Finding, Installation, fail, ok, warn
from shared.contracts.errors import FatalError, UserError
from shared.contracts.grader_kinds import PluginGrader
from shared.grading.bounded import BoundedGrader
from shared.grading.plugins import NEEDS_SETTINGS, installed, unfit


def of_packages(installation: Installation) -> Iterator[Finding]:
    """Nothing where no package brings one and METEOR_GRADERS names none."""
    there, allowed = installed(), installation.platform.grader_plugins
    shown = {one.name: f"{one.name} ({one.package} {one.version})" for one in there}
    for name in sorted(allowed):
        spec = PluginGrader(type="plugin", plugin=name)
        if why := unfit(spec, allowed, there) or _broken(spec):
            yield fail(
                f"grader {name}",
                f"{shown.get(name, name)}: {why}",
                "install or mend its package, or take it out of METEOR_GRADERS",
            )
        else:
            yield ok(f"grader {name}", f"{shown[name]}: allowed, and can be imported")
    for name in sorted(shown.keys() - allowed):
        yield warn(
            f"grader {name}",
            f"{shown[name]}: installed, not allowed",
            f"name it in METEOR_GRADERS if jobs may use it: {name}",
        )


def _broken(spec: PluginGrader) -> str:
    """Why its process does not start; settings that it wants are no fault."""
    try:
        with BoundedGrader(spec) as grader:
            grader.try_start()
    except (UserError, FatalError) as error:
        return "" if NEEDS_SETTINGS in error.message else error.message
    return ""
