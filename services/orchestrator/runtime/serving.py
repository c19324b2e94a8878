"""What becomes of a version that was promoted on dev: its alias serves it, or a canary tries it first."""

from services.orchestrator.runtime.run import DurableRun
from shared.contracts.canary import CanaryTerms
from shared.contracts.errors import Conflict
from shared.jobs.records import ModelRecord
from shared.platform.log import get_logger

log = get_logger(__name__)


def begin_to_serve(run: DurableRun, version: ModelRecord, terms: CanaryTerms | None) -> str:
    """Returns what was done, for the job's event. A version is tried once, whatever is killed: after that its alias is as the canary has
    left it."""
    catalog, project, alias = run.stores.catalog, run.job.project_id, version.alias
    if terms is None:
        catalog.serve(project, version)
        return f" and served as {alias}"
    if catalog.serve_first(project, version):
        return f" and served as {alias}"
    served = catalog.resolve(project, alias)
    try:
        run.stores.canaries.set_once(project, alias, version.version, terms)
    except Conflict as error:
        log.warning("a version is not tried", alias=alias, version=version.version, reason=error.message)
        return f"; it cannot be tried beside {alias}@{served.version}, so promote it by hand: {error.message}"
    return f"; a canary tries it beside {alias}@{served.version}"
