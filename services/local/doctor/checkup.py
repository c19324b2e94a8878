"""All checks, in the order in which they rest on each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from services.local.doctor import databases, machine, serving, stores
from services.local.doctor.finding import Finding, Health, Patient, fail
from services.local.doctor.strong import strong_models


def check_up(data: Path, environment: Mapping[str, str], calls: bool = True) -> Iterator[Finding]:
    """Findings as they are made. environment: this process's own. calls: ask each strong model for one token."""
    yield machine.python()
    yield machine.versions()
    yield machine.processor()
    yield machine.gpu()
    try:
        patient = Patient.of(data, environment)
    except (ValidationError, ValueError) as error:
        yield _settings(error)
        return
    yield machine.memory(patient)
    yield from machine.disk(patient)
    ground = [stores.data_folder(patient), machine.leftovers(patient), *databases.database(patient)]
    yield from ground
    yield from stores.message_broker(patient)
    yield serving.api_port(patient)
    yield serving.access(patient)
    yield from serving.models(patient)
    yield serving.engine(patient)
    yield from strong_models(patient, calls, sound=all(finding.health is not Health.FAIL for finding in ground))
    yield from serving.processes(patient)


def _settings(error: Exception) -> Finding:
    """Without the values, which may be secret."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False)[0]
        says = f"METEOR_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}"
    else:
        says = str(error)
    return fail("settings", says, "mend that variable; docs/reference/settings.md lists all of them")
