"""OpenTelemetry traces: off unless the standard variables ask for them, and then nothing of OpenTelemetry is imported.

Each process makes its provider at its first span, so after the fork of a worker's pool processes. A job's trace goes on over
processes and crashes because nothing but ids carry it: the trace is that of the request which posted the job (`jobs.traceparent`), or is
derived from the job's id; the span of the job is derived from its id too, so that steps can name it before it has ended (docs/adr/0062).
"""

import hashlib
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.platform.log import SERVICE, get_logger

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

log = get_logger(__name__)
Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float | list[str]
TRACEPARENT = "traceparent"
FLUSH_S = 2.0
GENAI = "gen_ai_latest_experimental"


class TraceSettings(BaseSettings):
    """Variables of OpenTelemetry that we read ourselves; its SDK reads the others. METEOR_TRACE_*: what else spans show."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    disabled: bool = Field(default=False, validation_alias="OTEL_SDK_DISABLED")
    exporter: str = Field(
        default="",
        validation_alias="OTEL_TRACES_EXPORTER",
        description="otlp, console or none; empty: otlp where there is an endpoint",
    )
    endpoint: str = Field(
        default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", description="of a collector, OTLP over HTTP"
    )
    traces_endpoint: str = Field(
        default="", validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", description="as before, with its whole path"
    )
    opt_in: str = Field(
        default="",
        validation_alias="OTEL_SEMCONV_STABILITY_OPT_IN",
        description=f"with {GENAI} the spans of model calls have the gen_ai.* attributes",
    )
    content: bool = Field(
        default=False,
        validation_alias="METEOR_TRACE_CONTENT",
        description="with these attributes also prompts and answers",
    )
    providers: bool = Field(
        default=False,
        validation_alias="METEOR_TRACE_PROVIDERS",
        description="send the trace's ids (traceparent) to providers of strong models, too",
    )

    @property
    def exports_to(self) -> str:
        """otlp, console, or empty: off."""
        if self.disabled or self.exporter == "none":
            return ""
        return self.exporter or ("otlp" if self.endpoint or self.traces_endpoint else "")


@lru_cache
def trace_settings() -> TraceSettings:
    return TraceSettings()


@lru_cache
def is_on() -> bool:
    return bool(trace_settings().exports_to)


def shows_models() -> bool:
    """Whether spans of model calls have the attributes of the GenAI conventions."""
    return GENAI in trace_settings().opt_in.replace(" ", "").split(",")


class Span(Protocol):
    def set(self, **attributes: Value | None) -> None:
        """Attributes by name, with `__` for the dot."""
        ...

    def rename(self, name: str) -> None: ...

    def failed(self, kind: str) -> None:
        """kind: an error's code or class. Its message is not recorded: it may hold what a user or a model wrote."""
        ...


class _NoSpan:
    """Stands for a span where tracing is off."""

    def __enter__(self) -> "_NoSpan":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, **attributes: Value | None) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def failed(self, kind: str) -> None:
        pass


NO_SPAN = _NoSpan()


class _OpenSpan:
    def __init__(self, span: Any):
        self._span = span

    def set(self, **attributes: Value | None) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name.replace("__", "."), value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def failed(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


def span(name: str, kind: Kind = "internal", parent: "Context | None" = None, **attributes: Value | None) -> Any:
    """`with span(...) as open_span:`; an exception that leaves it marks it as failed. parent: instead of the current span."""
    return _open(name, kind, parent, attributes) if is_on() else NO_SPAN


@contextmanager
def _open(name: str, kind: Kind, parent: "Context | None", attributes: Mapping[str, Value | None]) -> Generator[Span]:
    tracer = _tracer()
    if tracer is None:
        yield NO_SPAN
        return
    from opentelemetry.trace import SpanKind

    options = {"kind": SpanKind[kind.upper()], "record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, context=parent, **options) as opened:
        made = _OpenSpan(opened)
        made.set(**attributes)
        try:
            yield made
        except BaseException as error:
            made.failed(str(getattr(error, "code", None) or type(error).__name__))
            raise


@lru_cache
def _provider(pid: int) -> "TracerProvider | None":
    """One per process. None: the libraries are missing, which is logged once."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        if trace_settings().exports_to == "console":
            exporter = ConsoleSpanExporter()
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        from shared.platform.derived_ids import DerivedIds
    except ImportError as error:
        log.error("no traces: install the extra `otel` (requirements/otel.lock)", missing=error.name)
        return None
    name = os.environ.get("OTEL_SERVICE_NAME") or f"meteor-{SERVICE[0].replace(':', '-')}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}), id_generator=DerivedIds())
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _tracer() -> Any:
    provider = _provider(os.getpid())
    return provider and provider.get_tracer("meteor")


def flush() -> None:
    """Send what waits; called when a process ends."""
    if is_on() and (provider := _provider(os.getpid())) is not None:
        provider.force_flush(int(FLUSH_S * 1000))


# Context


def headers() -> dict[str, str]:
    """The current span for an HTTP request to one of our services; empty without one."""
    current = traceparent()
    return {TRACEPARENT: current} if current else {}


def traceparent() -> str | None:
    if not is_on() or _tracer() is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return (
        f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        if context.is_valid
        else None
    )


def parent_of(carried: str | None) -> "Context | None":
    """The context of a traceparent header; None where it is missing or no such header."""
    if not carried or not is_on() or _tracer() is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    made = TraceContextTextMapPropagator().extract({TRACEPARENT: carried}, context=Context())
    return made or None


def job_context(job_id: str, carried: str | None) -> "Context | None":
    """The context of a job's span, for its steps. carried: the job's traceparent."""
    provider = _provider(os.getpid()) if is_on() else None
    if provider is None:
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context

    trace_id, flags = _derived(job_id, 16), TraceFlags(TraceFlags.SAMPLED)
    if (parent := parent_of(carried)) is not None:
        above = get_current_span(parent).get_span_context()
        trace_id, flags = above.trace_id, above.trace_flags
    elif not provider.sampler.should_sample(None, trace_id, "job").decision.is_sampled():
        flags = TraceFlags(TraceFlags.DEFAULT)
    context = SpanContext(trace_id, _derived(f"{job_id}/span", 8), is_remote=True, trace_flags=flags)
    from opentelemetry.context import Context

    return set_span_in_context(NonRecordingSpan(context), Context())


def tell_job(
    job_id: str,
    carried: str | None,
    name: str,
    began: float,
    ended: float,
    error: str | None,
    **attributes: Value | None,
) -> None:
    """The span of a job that has ended, under the id that its steps name. began, ended: Unix seconds."""
    context = job_context(job_id, carried)
    if context is None:
        return
    from opentelemetry.trace import get_current_span

    from shared.platform.derived_ids import taking

    own = get_current_span(context).get_span_context()
    with taking(own.trace_id, own.span_id):
        opened = _tracer().start_span(name, context=parent_of(carried) or _empty(), start_time=int(began * 1e9))
    made = _OpenSpan(opened)
    made.set(**attributes)
    if error is not None:
        made.failed(error)
    opened.end(int(max(ended, began) * 1e9))


def _empty() -> "Context":
    from opentelemetry.context import Context

    return Context()


def _derived(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big")
