"""The metrics that we export, with bounded labels, and the rules and boards that read them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.api.features.chat.metrics import ChatMetrics
from services.api.features.health.metrics import StoreCollector
from services.api.features.health.stored import PLACES
from services.api.model_router import Target
from services.weak_model.engine.answer_probe import Outcome as ProbeOutcome
from services.weak_model.engine.supervisor import EngineState
from shared.contracts.canary import Outcome
from shared.contracts.integrations import IntegrationType, Sent
from shared.contracts.jobs import JobKind, JobStatus
from shared.contracts.steps import Queue, StepKind
from shared.jobs.operations import CANARY_STATES, DELIVERY_STATES, SERVICES
from shared.jobs.states import StepState
from shared.jobs.tallies import AttemptOutcome, Tally
from shared.ledger.budget_use import BudgetKind
from shared.platform.metrics import OTHER, LabelSets
from tests.exported_metrics import PAGE, ROOT, Exported, all_exported, of_the_client, open_api, page
from tests.promql import Matcher, reads

DEPLOY = ROOT / "deploy"
Values = frozenset[str] | re.Pattern[str]
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
CALLS = re.compile(
    r"ok|cached|empty|cut_off|thought|unfinished|filtered|timeout|bad_answer|unreachable|cancelled|unknown|misconfigured|http_\d{3}"
)

# Every label: the values that it may have, or the pattern of a set that is bounded elsewhere: by the settings, by our routes, by
# HTTP, or by LabelSets. A metric's own line goes before that of all metrics.
ALLOWED: dict[str, Values] = {
    "queue": frozenset(Queue),
    "meteor_steps/state": frozenset(StepState),
    "meteor_canaries/state": frozenset(CANARY_STATES),
    "meteor_webhook_deliveries/state": frozenset(DELIVERY_STATES),
    "meteor_engine_state/state": frozenset(EngineState),
    "meteor_step_attempts_total/kind": frozenset(StepKind),
    "meteor_step_seconds/kind": frozenset(StepKind),
    "meteor_jobs_ended_total/kind": frozenset(JobKind),
    "meteor_job_seconds/kind": frozenset(JobKind),
    "meteor_step_attempts_total/outcome": frozenset(AttemptOutcome),
    "meteor_canary_decisions_total/outcome": frozenset(Outcome),
    "meteor_integration_sends_total/outcome": frozenset(Sent),
    "meteor_webhook_attempts_total/outcome": frozenset({"delivered", "refused", "unreachable"}),
    "meteor_chat_requests_total/outcome": frozenset({"ok", "refused", "error", "left"}),
    "meteor_engine_probes_total/outcome": frozenset(ProbeOutcome),
    "meteor_teacher_calls_total/outcome": CALLS,
    "type": frozenset(IntegrationType),
    "meteor_jobs/status": frozenset(JobStatus),
    "meteor_jobs_ended_total/status": frozenset(ENDED),
    "meteor_http_requests_total/status": re.compile(r"[1-5]\d\d"),
    "route": re.compile(r"unmatched|/[\w./{}:-]*"),  # templates, not paths
    "meteor_http_requests_total/service": frozenset({"api", "strong_model"}),
    "meteor_http_seconds/service": frozenset({"api", "strong_model"}),
    "service": frozenset(SERVICES),
    "budget": frozenset(BudgetKind),
    "place": frozenset(PLACES),
    "direction": frozenset({"input", "output"}),
    "met": frozenset({"true", "false"}),
    "fate": frozenset({"reused", "duplicate", "deleted", "left"}),
    "field": re.compile(r"[a-z_.]+"),  # of the gateway's own table of what providers refuse
    "provider": re.compile(r"[\w.-]+"),  # of the settings
    "reason": re.compile(r"[a-z_]+"),
    "role": re.compile(r"[a-z_]+"),
    "project": re.compile(r".+"),  # LabelSets
    "alias": re.compile(r".+"),
    "version": re.compile(r".*"),
}
OF_PROMETHEUS = {"up": {"job", "instance"}}
ADDED = {"job", "instance", "le"}  # to every series by Prometheus, or of histograms


@cache
def exported() -> list[Exported]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return all_exported(Path(folder))


def allowed(metric: str, label: str) -> Values | None:
    return ALLOWED.get(f"{metric}/{label}", ALLOWED.get(label))


def is_allowed(values: Values, value: str) -> bool:
    return value in values if isinstance(values, frozenset) else values.fullmatch(value) is not None


def test_every_label_of_every_metric_has_a_bound():
    assert len(exported()) > 40
    unbounded = {f"{one.name}/{label}" for one in exported() for label in one.labels if not allowed(one.name, label)}
    assert not unbounded
    used = {f"{one.name}/{label}" for one in exported() for label in one.labels}
    idle = {line for line in ALLOWED if not any(name == line or name.endswith(f"/{line}") for name in used)}
    assert not idle, "no metric has these labels any more"


def test_the_manual_lists_what_is_exported():
    """After a change: python -m tests.exported_metrics"""
    text = PAGE.read_text()
    assert text == page(text, exported())
    labels = {label for one in exported() for label in one.labels}
    told = " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert not {label for label in labels if f"`{label}`" not in told}


def test_counts_of_the_database_have_all_values_from_the_start(tmp_path: Path):
    """Else the first loss of a worker would be no increase."""
    context = open_api(tmp_path)
    before = samples(StoreCollector(context))
    assert before['meteor_step_attempts_total{kind="weak.answer",outcome="lost"}'] == 0
    context.stores.tallies.count(Tally.STEP, StepKind.ANSWER, AttemptOutcome.LOST, amount=3.0)
    context.stores.tallies.count(Tally.STEP, StepKind.ANSWER, AttemptOutcome.SUCCEEDED, amount=3.0)
    after = samples(StoreCollector(context))
    assert after['meteor_step_attempts_total{kind="weak.answer",outcome="lost"}'] == 1
    assert after['meteor_step_seconds_bucket{kind="weak.answer",le="2.5"}'] == 0
    assert after['meteor_step_seconds_bucket{kind="weak.answer",le="5"}'] == 1
    assert after['meteor_step_seconds_sum{kind="weak.answer"}'] == 3
    assert set(before) - {name for name in before if "stored_bytes" in name} <= set(after)
    for name in after:
        metric, _, labels = name.partition("{")
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            if label != "le":
                values = allowed(re.sub(r"_(bucket|sum|count)$", "", metric), label)
                assert values is not None, name
                assert is_allowed(values, value), name


def samples(collector: StoreCollector) -> dict[str, float]:
    """name{labels} -> value, of the text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(collector)
    made = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            made[f"{sample.name}{{{labels}}}"] = sample.value
    return made


def test_a_process_with_many_versions_has_few_series():
    sets = LabelSets(3)
    assert [sets.admit("p", f"alias-{n}") for n in range(4)][-1] == (OTHER, OTHER)
    assert sets.admit("p", "alias-0") == ("p", "alias-0"), "one that was met before stays"
    seen = {
        ChatMetrics("p", Target("m", "m", "m", alias=f"many-{n}", version="1", role="served")).labels
        for n in range(500)
    }
    assert len(seen) <= 201


# Rules and boards


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board_queries() -> Iterator[tuple[str, str]]:
    for path in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]


EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in rules()), *board_queries()]


def series() -> dict[str, Exported]:
    return {name: one for one in exported() for name in one.series}


def faults(expression: str) -> list[str]:
    """What of an expression does not exist: series, labels, values of labels."""
    known, read = series(), reads(expression)
    wrong: list[str] = []
    labels: set[str] = set(ADDED)
    for name, matchers in read.series.items():
        if name in OF_PROMETHEUS or name in of_the_client():
            labels |= OF_PROMETHEUS.get(name, set())
            continue
        if name not in known:
            wrong.append(f"no metric {name}")
            continue
        labels |= set(known[name].labels)
        wrong += [fault for matcher in matchers if (fault := wrong_matcher(known[name], matcher))]
    if not read.series:
        wrong.append("it reads nothing")
    return wrong + [f"no label {label}" for label in sorted(read.grouped - labels)]


def wrong_matcher(metric: Exported, matcher: Matcher) -> str | None:
    if matcher.label not in {*metric.labels, *ADDED}:
        return f"{metric.name} has no label {matcher.label}"
    values = allowed(metric.name, matcher.label)
    for value in matcher.values:
        if matcher.label in ADDED:
            continue
        hits = isinstance(values, frozenset) and any(
            re.fullmatch(value, one) if "~" in matcher.operator else one == value for one in values
        )
        if isinstance(values, frozenset) and not hits:
            return f"{metric.name}: {matcher.label} is never {value!r}"
    return None


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_rules_and_boards_read_what_is_exported(name: str, expression: str):
    assert not faults(expression), expression


def test_what_does_not_exist_is_seen():
    assert faults("sum(rate(meteor_step_tries_total[5m]))") == ["no metric meteor_step_tries_total"]
    assert faults("sum by (kinds) (meteor_steps)") == ["no label kinds"]
    assert faults('meteor_steps{state="asleep"}') == ["meteor_steps: state is never 'asleep'"]
    assert faults('meteor_steps{status="queued"}') == ["meteor_steps has no label status"]
    assert faults("1 + 1") == ["it reads nothing"]


def test_boards_are_as_they_are_made():
    """After a change: python deploy/grafana/make.py"""
    code = "import runpy, json; made = runpy.run_path('deploy/grafana/make.py'); print(json.dumps({n: made['text_of'](b) for n, b in made['BOARDS'].items()}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    assert made == {path.name: path.read_text() for path in (DEPLOY / "grafana").glob("*.json")}
    for text in made.values():
        board = json.loads(text)
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_every_alert_is_tested():
    tested = (DEPLOY / "alerts.test.yml").read_text()
    assert not [rule["alert"] for rule in rules() if f'alertname="{rule["alert"]}"' not in tested]
    assert all(rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"] for rule in rules())


def test_targets_are_services_of_the_compose_file():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    names = set(compose["services"]) | {"engine"}
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert {target.split(":")[0] for targets in jobs.values() for target in targets} <= names
    assert jobs["meteor-api"] == ["api:8000"]
    assert jobs["meteor-gateway"] == [
        f"strong-gateway:{compose['services']['strong-gateway']['environment']['METEOR_STRONG_PORT']}"
    ]
    engine = compose["services"]["engine-cpu"]["environment"]
    assert jobs["meteor-engine"] == [f"engine:{engine['METEOR_ENGINE_CONTROL_PORT']}"]


PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing (Debian's package prometheus has it)")


def promtool(*arguments: str, cwd: Path = DEPLOY) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then():
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


@needs_promtool
def test_configuration_and_expressions_are_valid(tmp_path: Path):
    (tmp_path / "token").write_text("token")
    config = (DEPLOY / "prometheus.yml").read_text().replace("/tmp/metrics-token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    recorded = [
        {"record": f"board:{number}", "expr": re.sub(r"\$__(rate_interval|range)", "5m", expression)}
        for number, (_, expression) in enumerate(board_queries())
    ]
    (tmp_path / "boards.yml").write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": recorded}]}))
    promtool("check", "rules", "boards.yml", cwd=tmp_path)
