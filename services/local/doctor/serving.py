"""What answers: the api and who may reach it, the models and the engine that serves them, the processes of the run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError

from services.local.doctor import fitting
from services.local.doctor.databases import has_database
from services.local.doctor.finding import Finding, Health, Installation, bearer, fail, ok, warn
from services.local.models.prepare import PreparedModel, damage, find, served_name
from services.local.models.probing import ABILITIES, known, summary
from services.local.settings import PREFERRED_API_PORT
from services.local.supervisor import ports
from services.local.supervisor.plan import CONSUMERS, CONTROL, models_needed
from services.local.supervisor.processes import last_words
from shared.artifacts.capabilities import published
from shared.contracts.engine import EngineStatus, ModelState
from shared.contracts.errors import MeteorError
from shared.db.engine import engine_for, newest, revision
from shared.jobs.schema import MIGRATIONS, stores_on
from shared.platform.http import is_loopback
from shared.platform.run_state import ProcessState

ANSWER_S = 5.0


def api_port(installation: Installation) -> Finding:
    """Free for the next start, or held by our own api."""
    if installation.run is not None and "api" in installation.run.urls:
        return ok("port", f"the api listens at {installation.run.urls['api']}")
    wanted = installation.local.api_port
    port = wanted or PREFERRED_API_PORT
    if ports.is_free(port):
        return ok("port", f"{port} is free")
    message = f"{port} is held by {ports.holder(port)}"
    if wanted is None:
        return warn("port", message, "the api will take another one; METEOR_API_PORT names one of your choice")
    return fail("port", message, "end that process, or set METEOR_API_PORT to another port")


def access(installation: Installation) -> Finding:
    """Who can reach the api, and whether they need a key."""
    host = installation.environment.get("METEOR_API_HOST", "127.0.0.1")
    with contextlib.suppress(SQLAlchemyError):  # the database has a finding of its own
        if installation.environment.get("METEOR_API_KEYS") or _keys_were_made(installation):
            return ok("access", f"the api listens on {host} and asks for a key")
    if is_loopback(host):
        return ok("access", f"the api listens on {host}; it asks for no key")
    return fail(
        "access",
        f"METEOR_API_HOST is {host}, which others can reach, and there is no API key: the api does not start",
        "make a key with `meteor keys create`, set METEOR_API_KEYS, or set METEOR_API_HOST to 127.0.0.1",
    )


def _keys_were_made(installation: Installation) -> bool:
    url = installation.platform.database
    if not has_database(installation, url) or revision(engine_for(url), "alembic_version") != newest(MIGRATIONS):
        return False
    return stores_on(url).keys.any()


def models(installation: Installation) -> Iterator[Finding]:
    """Every model that a start needs: prepared, and its files as they were prepared."""
    try:
        needed = models_needed(None, installation.environment, installation.data)
    except MeteorError as error:
        yield fail("models", str(error), "fix the named setting")
        return
    for source in needed:
        name = f"model {served_name(source)}"
        try:
            model = find(source, installation.local.models)
        except MeteorError as error:
            yield fail(
                name, str(error), f"name a folder with config.json and *.safetensors, or `meteor models pull {source}`"
            )
            continue
        if model is None:
            yield warn(name, "not prepared yet", f"`meteor models pull {source}` (`meteor up` does it too)")
        elif wrong := damage(model):
            yield fail(name, f"{model.path}: {wrong}", f"remove the folder, then `meteor models pull {source}`")
        else:
            yield ok(name, f"{model.path}, {model.fingerprint[:12]}")
            yield from _student(installation, source, model)


def _student(installation: Installation, source: str, model: PreparedModel) -> Iterator[Finding]:
    """What a student can do, as far as it was tried. A teacher is not trained."""
    if source == installation.local.teacher_model:
        return
    yield from fitting.student(installation, model.name, model.path)
    label = f"student {model.name}"
    result = published(installation.data, model.name) or known(model.name, installation.local.models)
    if result is None:
        return
    refusal = result.refusal
    if refusal:
        yield fail(label, f"cannot be a student: {refusal.reason}", refusal.remedy or "take another student")
    elif any(getattr(result, ability).ok is False for ability in ABILITIES):
        yield warn(label, summary(result), "jobs that need what it cannot do are refused when they are posted")
    else:
        yield ok(label, summary(result))


def engine(installation: Installation) -> Finding:
    """The student's engine: a given one, or this run's."""
    url = installation.url("student-engine", "METEOR_WEAK_ENGINE_URL")
    if not url:
        return ok("engine", "not running; `meteor up` starts it")
    status = _status(installation.url(CONTROL, "METEOR_WEAK_ENGINE_CONTROL_URL"))
    if status is not None and status.state is ModelState.LENT:
        return ok("engine", status.sentence(status.serving))
    reason = _answers(f"{url}/health", installation.token)
    if not reason:
        return ok("engine", f"{url} answers{_lends(status)}")
    ours = (
        next((row for row in installation.run.processes if row.name == "student-engine"), None)
        if installation.run
        else None
    )
    if ours:
        return fail(
            "engine", f"{url} {reason}; {_words(ours)}", f"its log is {ours.log}; it is started again by itself"
        )
    return fail(
        "engine", f"METEOR_WEAK_ENGINE_URL {url} {reason}", "start vLLM there, or unset it for an engine of our own"
    )


def _status(control_url: str) -> EngineStatus | None:
    """None where there is no control port, or it does not answer."""
    if not control_url:
        return None
    try:
        answer = httpx.get(f"{control_url}/status", timeout=ANSWER_S, trust_env=False)
        return EngineStatus.model_validate_json(answer.content)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None


def _lends(status: EngineStatus | None) -> str:
    """How the engine lends its device to trainings; empty where it does not."""
    if status is None or status.sleep_mode is None:
        return ""
    if status.sleep_mode.available:
        return "; it sleeps while a training uses its device"
    return f"; it is stopped while a training uses its device ({status.sleep_mode.reason or 'sleep mode was not looked for yet'})"


def _answers(url: str, token: str) -> str:
    """Empty, or how the address does not answer."""
    try:
        answer = httpx.get(url, headers=bearer(token), timeout=ANSWER_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"does not answer: {error or type(error).__name__}"
    return "" if answer.status_code == 200 else f"answers with {answer.status_code}"


def _words(row: ProcessState) -> str:
    return f"{row.state}, restarts: {row.restarts}, last words: {last_words(Path(row.log)) or 'none'}"


def processes(installation: Installation) -> Iterator[Finding]:
    """What `meteor up` started, and what the api misses of what a job needs."""
    run = installation.run
    if run is None:
        yield ok("processes", f"nothing runs on {installation.data}")
        return
    late = [row for row in run.processes if row.state != "ready"]
    for row in late:
        yield fail(row.name, _words(row), f"its log is {row.log}")
    if not late:
        yield ok("processes", f"{len(run.processes)} run and are ready")
    if "api" in run.urls:
        yield _api(run.urls["api"], whole={row.name for row in run.processes} >= set(CONSUMERS.values()))


def _api(url: str, whole: bool) -> Finding:
    """whole: nothing was left out; after `up --only` the api rightly misses the others."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=2 * ANSWER_S, trust_env=False)
        readiness = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return fail("api", f"{url} does not answer: {error or type(error).__name__}", "look into logs/api.log")
    if missing := readiness.get("missing"):
        fix = "start what is missing: `meteor up` starts everything, `meteor up --only NAME` one process"
        return Finding("api", Health.FAIL if whole else Health.WARN, f"{url} misses {', '.join(missing)}", fix)
    return ok("api", f"{url} is ready")
