"""Spans: none without a collector, ids that survive a crash, and nothing of what people wrote."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.contracts.errors import UserError
from shared.platform import tracing
from shared.platform.model_spans import answered, chat_span
from tests.fakes.receiver import Receiver, receiving

SECRET = "what a person wrote"
ANSWER = {
    "id": "c-1",
    "model": "large-2",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": SECRET}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}


def test_without_a_collector_nothing_is_loaded():
    code = (
        "import sys; from shared.platform import tracing\n"
        "with tracing.span('a') as span: span.set(b=1); span.failed('c')\n"
        "assert tracing.headers() == {} and tracing.traceparent() is None and tracing.job_context('job', None) is None\n"
        "tracing.tell_job('job', None, 'job', 0, 1, None); tracing.flush()\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, timeout=60).returncode == 0
    )


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/x"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
    ],
)
def test_the_standard_variables_decide(variables: dict[str, str], exporter: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.TraceSettings().exports_to == exporter


CACHED = (tracing.trace_settings, tracing.is_on, tracing._provider)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
    with receiving() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        for cached in CACHED:
            cached.cache_clear()
        yield made
        for cached in CACHED:
            cached.cache_clear()


def test_an_error_leaves_its_code_and_not_its_words(receiver: Receiver):
    from tests.fakes.otlp import spans_of

    with pytest.raises(UserError), tracing.span("step"):
        raise UserError(SECRET, code="bad_rows")
    tracing.flush()
    (span,) = spans_of(receiver)
    assert "bad_rows" in span.attributes["error.type"]
    assert SECRET.encode() not in receiver.messages[0].body


def test_a_job_is_found_from_its_id_by_whoever_runs_a_part(receiver: Receiver):
    from tests.fakes.otlp import spans_of

    for job in ("job-1", "job-2"):
        with tracing.span("step", parent=tracing.job_context(job, None)):
            pass
        tracing.tell_job(job, None, "job", 10.0, 11.0, None)
    tracing.flush()
    steps, jobs = ([span for span in spans_of(receiver) if span.name == name] for name in ("step", "job"))
    assert [step.parent for step in steps] == [job.span_id for job in jobs]
    assert [step.trace for step in steps] == [job.trace for job in jobs]
    assert {job.parent for job in jobs} == {""}
    assert jobs[0].trace != jobs[1].trace


def test_a_sampler_by_share_keeps_its_share_of_jobs(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    from tests.fakes.otlp import spans_of

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.3")
    for number in range(300):
        with tracing.span("step", parent=tracing.job_context(f"job-{number}", None)):
            pass
        tracing.tell_job(f"job-{number}", None, "job", 10.0, 11.0, None)
    tracing.flush()
    spans = spans_of(receiver)
    kept = {span.trace for span in spans}
    assert 60 < len(kept) < 120
    assert len(spans) == 2 * len(kept), "a job and its steps are kept together"


@pytest.mark.parametrize(("opt_in", "content"), [(False, False), (True, False), (True, True), (False, True)])
def test_models_and_texts_are_shown_as_far_as_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, opt_in: bool, content: bool
):
    from tests.fakes.otlp import spans_of

    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental" if opt_in else "http")
    monkeypatch.setenv("METEOR_TRACE_CONTENT", str(content))
    body = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 5, "temperature": 0}
    with chat_span("teacher", "large", "https://user:word@host.example:8443/v1?key=k", body) as span:
        answered(span, ANSWER)
    tracing.flush()
    (seen,) = spans_of(receiver)
    sent = receiver.messages[0].body
    assert (SECRET.encode() in sent) == (opt_in and content)
    assert b"word" not in sent.replace(b"keyword", b"")
    assert "host.example" in seen.attributes["server.address"]
    generative = {name: value for name, value in seen.attributes.items() if name.startswith("gen_ai.")}
    assert bool(generative) == opt_in
    if opt_in:
        assert "7" in generative["gen_ai.usage.input_tokens"]
        assert "large-2" in generative["gen_ai.response.model"]
        assert "gen_ai.request.temperature" in generative, "zero is told, too"
