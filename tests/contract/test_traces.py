"""A tiny job leaves one connected trace: API, job, step, gateway, provider; and the metrics that are listed. The processes, the broker and the receiver are real."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.conftest import KEY, TOKEN, api_environment, running_api
from tests.fakes.gateway import KEY as TEACHER_KEY
from tests.fakes.gateway import running_gateway
from tests.fakes.ports import wait_until
from tests.fakes.receiver import Receiver, receiving
from tests.fakes.start import FakeServer, start_teacher

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed (requirements/otel.lock)")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
from tests.fakes.otlp import Seen, spans_of
from tests.unit.test_monitoring import allowed, exported, is_allowed

DOMAIN = "a domain that no trace may show"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced(NamedTuple):
    spans: list[Seen]
    received: Receiver
    teacher: FakeServer
    job: str
    scraped: str

    def one(self, name: str) -> Seen:
        (made,) = [span for span in self.spans if span.name == name]
        return made

    def some(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[Traced]:
    folder: Path = tmp_path_factory.mktemp("traces")
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        traces = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
        }
        settings = traces | {"REDIS_URL": _valkey_server, "METEOR_KEY_PREFIX": "traces:"}
        teacher = stack.enter_context(start_teacher())
        gateway = stack.enter_context(running_gateway(teacher, folder, METEOR_INTERNAL_TOKEN=TOKEN, **traces))
        api = stack.enter_context(running_api(folder / "api", METEOR_API_GATEWAY_URL=gateway.url, **settings))
        environment = api_environment(
            folder / "api", 0, METEOR_STRONG_GATEWAY_URL=gateway.url, METEOR_STRONG_SLOTS="1", **settings
        )
        for module in (["services.orchestrator"], ["services.strong_model", "worker"]):
            process = subprocess.Popen([sys.executable, "-m", *module], env=environment)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        http = stack.enter_context(
            httpx.Client(base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)
        )
        source = {"type": "generate", "domain": DOMAIN, "topics": ["files"], "levels": ["easy", "hard"], "count": 16}
        made = http.post("/v1/imports", json={"source": source}, headers={"traceparent": CALLER})
        assert made.status_code == 201, made.text
        path = made.headers["location"]
        wait_until(lambda: http.get(path).json()["status"] in ("succeeded", "failed"), 120, "the import")
        assert http.get(path).json()["status"] == "succeeded", http.get(path).text
        wait_until(lambda: any(span.name == "job import" for span in spans_of(receiver)), 30, "the job's span")
        time.sleep(0.5)
        scraped = http.get("/metrics").text + httpx.get(f"{gateway.url}/metrics", trust_env=False).text
        yield Traced(spans_of(receiver), receiver, teacher, made.json()["id"], scraped)


def test_the_trace_is_connected_from_the_caller_to_the_provider(traced: Traced):
    posted, job = traced.one("POST /v1/imports"), traced.one("job import")
    assert (posted.service, posted.parent) == ("meteor-api", "b7ad6b7169203331")
    assert (job.service, job.parent) == ("meteor-orchestrator", posted.span_id)
    steps = traced.some("step strong.propose")
    assert steps
    for step in steps:
        assert (step.service, step.parent) == ("meteor-strong_model-strong", job.span_id)
        assert traced.job in step.attributes["meteor.job.id"]
    asked = [span for span in traced.some("POST /v1/chat/completions") if span.service == "meteor-strong_model-gateway"]
    assert asked
    assert {span.parent for span in asked} <= {step.span_id for step in steps}
    answered = traced.some("chat fake-large")
    assert answered
    assert {span.parent for span in answered} <= {span.span_id for span in asked}
    whole = [posted, job, *steps, *asked, *answered]
    assert {span.trace for span in whole} == {"0af7651916cd43dd8448eb211c80319c"}


def test_calls_to_models_have_the_attributes_of_the_conventions(traced: Traced):
    calls = [span.attributes for span in traced.some("chat fake-large")]
    call = next((call for call in calls if "gen_ai.response.id" in call), {})
    assert call, calls
    assert "chat" in call["gen_ai.operation.name"]
    assert "fake-large" in call["gen_ai.request.model"]
    assert int(call["gen_ai.usage.input_tokens"].split()[-1]) > 0
    assert "127.0.0.1" in call["server.address"]


def test_no_secret_and_no_text_is_told(traced: Traced):
    sent = b"".join(message.body for message in traced.received.messages)
    for secret in (KEY, TOKEN, TEACHER_KEY, DOMAIN, "authorization"):
        assert secret.encode() not in sent, secret


def test_the_provider_gets_no_ids_unless_asked(traced: Traced):
    assert {call["traceparent"] for call in traced.teacher.log()} == {None}


def test_what_the_processes_export_is_listed_with_bounded_labels(traced: Traced):
    """The list is made in this process; here it is held against running ones, after a job."""
    listed = {name: one for one in exported() for name in one.series}
    seen = {}
    for family in text_string_to_metric_families(traced.scraped):
        for sample in family.samples if family.name.startswith("meteor_") else ():
            if sample.name.endswith("_created"):
                continue
            metric = listed[sample.name]
            assert set(sample.labels) - {"le"} <= set(metric.labels), sample
            for label in metric.labels:
                values = allowed(metric.name, label)
                assert values is not None
                assert is_allowed(values, sample.labels[label]), sample
            seen[sample.name, *sorted(sample.labels.values())] = sample.value
    assert seen["meteor_step_attempts_total", "strong.propose", "succeeded"] >= 1
    assert seen["meteor_jobs_ended_total", "import", "succeeded"] == 1
    assert seen["meteor_teacher_calls_total", "default", "ok"] >= 1
    assert seen["meteor_processes", "strong_model"] == 1
    assert seen["meteor_worker_slots", "strong"] == 1
