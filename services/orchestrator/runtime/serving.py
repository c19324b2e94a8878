"""What becomes of a version that was promoted on dev: its alias serves it, or a canary tries it first.

Either replaces the version that it was compared with. Where the alias has moved since, nobody has compared the two, and people decide.
"""

from typing import NamedTuple

from services.orchestrator.runtime.run import DurableRun
from shared.contracts.canary import CanaryTerms
from shared.contracts.errors import Conflict
from shared.jobs.catalog import Replaces
from shared.jobs.records import ModelRecord
from shared.platform.log import get_logger

log = get_logger(__name__)


class Placed(NamedTuple):
    """then: what was done, for the job's event. served_meanwhile: the version that the alias serves, where it is neither this one nor the one
    that this one was compared with."""

    then: str
    served_meanwhile: str | None = None


def replaced_by(run: DurableRun, alias: str, terms: CanaryTerms | None) -> Replaces | None:
    """What a promoted version of the job replaces as it is published; None: a canary tries it first."""
    incumbent = run.stores.catalog.incumbent(run.job, alias)
    return Replaces(incumbent.id if incumbent else None) if terms is None else None


def begin_to_serve(run: DurableRun, version: ModelRecord, terms: CanaryTerms | None) -> Placed:
    """A version is served and tried once, whatever is killed: after that its alias is as people and the canary have left it."""
    catalog, project, alias = run.stores.catalog, run.job.project_id, version.alias
    if terms is not None and catalog.serve_first(project, version):
        return Placed(f" and served as {alias}")
    served = catalog.served(project, alias)
    if served is None:
        return Placed(f"; {alias} serves no version any more, so promote it by hand")
    if served.id == version.id:
        return Placed(f" and served as {alias}")
    incumbent = catalog.incumbent(run.job, alias)
    moved = incumbent is None or served.id != incumbent.id
    meanwhile = f"{alias}@{served.version}" if moved else None
    if terms is not None:
        return Placed(_tried(run, version, terms, f"{alias}@{served.version}"), meanwhile)
    compared = ", with which it was not compared, so promote it by hand if it is to replace that" if moved else ""
    return Placed(f"; {alias} serves {alias}@{served.version} now{compared}", meanwhile)


def _tried(run: DurableRun, version: ModelRecord, terms: CanaryTerms, served: str) -> str:
    try:
        run.stores.canaries.set_once(run.job.project_id, version.alias, version.version, terms)
    except Conflict as error:
        log.warning("a version is not tried", alias=version.alias, version=version.version, reason=error.message)
        return f"; it cannot be tried beside {served}, so promote it by hand: {error.message}"
    return f"; a canary tries it beside {served}"
