"""The strong models: each is asked for one token, through the gateway, so that the call is on the ledger; and once a week a few
more questions, to find out what it can do.

Where no gateway runs, one is borrowed for the check: the real one, with the keys and the ledger of the data folder.
"""

import fcntl
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from services.local.doctor.finding import Finding, Health, Installation, bearer, fail, ok, warn
from services.local.supervisor.plan import make_plan
from services.local.supervisor.processes import Child, last_words
from shared.contracts.errors import MeteorError, UserError
from shared.contracts.providers import ProviderReport
from shared.platform.providers import FILE, given_providers, providers_path

START_S = 90.0
CALL_S = 60.0
TEST_S = 600.0
KEPT_S = 7 * 24 * 3600.0  # so long the report of a provider's test will do
BORROWED = {"METEOR_STRONG_ATTEMPTS": "1", "METEOR_STRONG_PATIENCE": "PT5S", "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT45S"}
NOT_HERE = "redis://127.0.0.1:1/0"  # a gateway needs no broker, and none is started for it
FIXES = {
    "teacher_auth_failed": "put the provider's key into the variable that is named, for the process that starts METEOR",
    "teacher_quota_exhausted": "pay the provider, or name another one",
    "teacher_unreachable": "fix the address that is named; does the provider run, and does this machine reach it?",
}


class GatewayModel(BaseModel):
    """A provider in the gateway's list of models. root: the provider's own name for it; prices in USD per million tokens."""

    id: str
    root: str
    price_input: float
    price_output: float


class ProviderState(BaseModel):
    """A provider in the gateway's /readyz, or the error of a call to it. code and message: why it is not ready."""

    ready: bool = False
    code: str | None = None
    message: str | None = None


class TokenUsage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Served(BaseModel):
    """The gateway's extension of an answer: the provider that answered."""

    provider: str | None = None


class ProviderReply(BaseModel):
    usage: TokenUsage | None = None
    meteor: Served | None = None


def strong_models(installation: Installation, calls: bool, sound: bool) -> Iterator[Finding]:
    """calls: whether each provider may be asked for one token. sound: data folder, ledger and what else a gateway stands on
    are in order."""
    try:
        file = providers_path(installation.local.providers_file, installation.data)
        named = given_providers(file, installation.environment)
    except MeteorError as error:
        yield fail(
            "providers file", str(error), f"fix the file that {FILE} names; docs/how-to/several-models.md shows one"
        )
        return
    url = installation.url("gateway", "METEOR_STRONG_GATEWAY_URL")
    if url:
        yield from _through(url, installation.token, calls)
    elif not named and not installation.local.teacher_base_url:
        yield ok(
            "gateway", f"not running; the embedded teacher {installation.local.teacher_model} starts with `meteor up`"
        )
    elif installation.platform.database_url is not None:
        message = "not running, so no strong model was asked: its ledger may be another gateway's"
        yield warn(
            "gateway", message, "`meteor up --only gateway`, or METEOR_STRONG_GATEWAY_URL, then `meteor doctor` again"
        )
    elif not sound:
        yield warn(
            "gateway", "not running, and not started for want of what failed above", "fix the failures above first"
        )
    else:
        yield from _borrowed(installation, calls)


def _borrowed(installation: Installation, calls: bool) -> Iterator[Finding]:
    try:
        with _gateway(installation) as (url, token):
            yield from _through(url, token, calls, "started for this check")
    except MeteorError as error:
        yield fail(
            "gateway",
            f"it does not start: {error}",
            "fix the named setting; docs/reference/settings.md lists all of them",
        )


@contextmanager
def _gateway(installation: Installation) -> Generator[tuple[str, str]]:
    """(address, internal token) of a gateway for as long as the block runs. Raises MeteorError with its last words."""
    data = installation.data.resolve()
    with (data / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{data} is being started or stopped; try again") from error
        plan = make_plan(data, ["gateway"], {"REDIS_URL": NOT_HERE} | dict(installation.environment))
        spec = plan.specs[0]
        spec.env |= BORROWED
        child = Child(spec, data / "logs" / "doctor-gateway.log")
        child.log_file.parent.mkdir(exist_ok=True)
        child.log_file.write_text("")
        child.start()
        try:
            _until_ready(child)
            yield plan.urls["gateway"], spec.env["METEOR_INTERNAL_TOKEN"]
        finally:
            child.ask_to_stop()
            if not child.wait(time.monotonic() + 8):
                child.kill()


def _until_ready(child: Child) -> None:
    deadline = time.monotonic() + START_S
    while child.state != "ready":
        child.poll()
        if child.state == "restarting" or time.monotonic() > deadline:
            raise UserError(" ".join(last_words(child.log_file, 4).split()) or "it message nothing")
        time.sleep(0.1)


def _through(url: str, token: str, calls: bool, remark: str = "") -> Iterator[Finding]:
    with httpx.Client(base_url=url, headers=bearer(token), timeout=CALL_S, trust_env=False) as client:
        try:
            listed = client.get("/v1/models", timeout=5)
            states: dict[str, object] = client.get("/readyz", timeout=30).json()["providers"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            yield fail(
                "gateway", f"{url} does not answer: {error or type(error).__name__}", "start it, or fix its address"
            )
            return
        if listed.status_code == 401:
            yield fail("gateway", f"{url} refuses our token", "give both the same METEOR_INTERNAL_TOKEN")
            return
        yield ok("gateway", " ".join(filter(None, [url, remark])))
        models = {row["id"]: GatewayModel.model_validate(row) for row in listed.json()["data"]}
        for name, state in states.items():
            finding = _provider(client, name, models.get(name), ProviderState.model_validate(state), calls)
            yield finding
            if calls and finding.health is not Health.FAIL:
                yield _abilities(client, name)


def _provider(
    client: httpx.Client, name: str, model: GatewayModel | None, state: ProviderState, calls: bool
) -> Finding:
    label = f"provider {name}"
    if not state.ready or model is None:
        return _refused(label, state)
    if not calls:
        return ok(label, f"{model.root} is there; it was not asked anything")
    started = time.monotonic()
    word = uuid.uuid4().hex[:8]  # a question that no cache can answer
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": f"Say yes. ({word})"}]}
    try:
        answer = client.post("/v1/chat/completions", json=body, headers={"x-meteor-phase": "doctor"})
        reply = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return fail(
            label, f"{model.root} gave no answer in {CALL_S:.0f} s: {error!r}", "is it overloaded? try again later"
        )
    if answer.is_error:
        return _refused(label, ProviderState.model_validate(reply["error"]))
    return _answered(label, name, model, ProviderReply.model_validate(reply), time.monotonic() - started)


def _abilities(client: httpx.Client, name: str) -> Finding:
    label = f"abilities of {name}"
    try:
        answer = client.post(f"/internal/providers/{quote(name)}/test", params={"max_age_s": KEPT_S}, timeout=TEST_S)
        answer.raise_for_status()
        report = ProviderReport.model_validate(answer.json())
    except (httpx.HTTPError, ValueError) as error:
        return warn(label, f"they were not found out: {error!r}", f"`meteor providers test {name}` tells more")
    if report.error:
        return warn(label, f"{report.error.code}: {report.error.message}", f"`meteor providers test {name}` tells more")
    parts = [f"structured output {report.structured}", f"system turn {report.system_role}", f"seed {report.seed}"]
    parts += [f"{report.context} tokens of context"] if report.context else []
    parts += [f"{report.room} tokens of room for reasoning"] if report.room else []
    parts += [f"{change.field} {change.how}" for change in report.changed]
    return ok(label, "; ".join(parts))


def _refused(label: str, state: ProviderState) -> Finding:
    fix = FIXES.get(str(state.code), "fix what the message names; docs/how-to/several-models.md")
    return fail(label, f"{state.code}: {state.message}", fix)


def _answered(label: str, name: str, model: GatewayModel, reply: ProviderReply, seconds: float) -> Finding:
    usage = reply.usage or TokenUsage()
    usd = (usage.prompt_tokens * model.price_input + usage.completion_tokens * model.price_output) / 1e6
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
    message = f"{model.root} answered in {seconds:.1f} s, {tokens}, {usd:.6f} USD"
    by = reply.meteor.provider if reply.meteor else None
    if by and by != name:
        return fail(label, f"its fallback {by} answered in its place", f"the gateway's log message why {name} did not")
    if not reply.usage:
        return warn(
            label, f"{message}: it does not say what it used", "budgets count estimates for it; turn its usage on"
        )
    return ok(label, message)
