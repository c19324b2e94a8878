"""Ids of spans: random, or those that the caller has drawn. Imported only where traces are made."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_taken: ContextVar[tuple[int, int] | None] = ContextVar("taken", default=None)


@contextmanager
def taking(trace_id: int, span_id: int) -> Generator[None]:
    """A span that starts inside has these ids."""
    token = _taken.set((trace_id, span_id))
    try:
        yield
    finally:
        _taken.reset(token)


class DerivedIds(RandomIdGenerator):
    def generate_trace_id(self) -> int:
        taken = _taken.get()
        return taken[0] if taken else super().generate_trace_id()

    def generate_span_id(self) -> int:
        taken = _taken.get()
        return taken[1] if taken else super().generate_span_id()
