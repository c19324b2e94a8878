"""All checks, in the order of their dependencies."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from services.local.doctor import cluster, databases, graders, machine, serving, stores
from services.local.doctor.finding import Finding, Health, Installation, fail
from services.local.doctor.strong import strong_models


def check_up(data: Path, environment: Mapping[str, str], calls: bool = True) -> Iterator[Finding]:
    """Findings as they are made. environment: this process's own. calls: ask each strong model for one token."""
    yield machine.python()
    yield machine.versions()
    yield machine.processor()
    yield machine.gpu()
    try:
        installation = Installation.of(data, environment)
    except (ValidationError, ValueError) as error:
        yield _settings(error)
        return
    yield machine.memory(installation)
    yield from machine.disk(installation)
    ground = [stores.data_folder(installation), machine.leftovers(installation), *databases.database(installation)]
    yield from ground
    yield from stores.object_storage(installation)
    yield from stores.message_broker(installation)
    yield from cluster.ray(installation)
    yield serving.api_port(installation)
    yield serving.access(installation)
    yield from serving.models(installation)
    yield serving.engine(installation)
    yield from graders.of_packages(installation)
    yield from strong_models(installation, calls, sound=all(finding.health is not Health.FAIL for finding in ground))
    yield from serving.processes(installation)


def _settings(error: Exception) -> Finding:
    """Without the values, which may be secret."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False)[0]
        message = f"METEOR_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}"
    else:
        message = str(error)
    return fail("settings", message, "fix that variable; docs/reference/settings.md lists all of them")
