"""The engine process's metrics. vLLM has its own, on its own port."""

from collections.abc import Callable, Iterator

from services.weak_model.engine.answer_probe import Outcome
from services.weak_model.engine.supervisor import EngineState, EngineSupervisor


class EngineMetrics:
    """In the text format of Prometheus."""

    def __init__(self, engine: EngineSupervisor):
        self._engine = engine

    def collect(self) -> Iterator:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        engine = self._engine
        state = GaugeMetricFamily("meteor_engine_state", "1 for the state that the engine is in", labels=["state"])
        for name in EngineState:
            state.add_metric([name.value], float(engine.state == name))
        yield state
        yield CounterMetricFamily("meteor_engine_starts", "Starts of the server: first, swaps, restarts", engine.starts)
        lost = "Times that the server died, or did not start"
        yield CounterMetricFamily("meteor_engine_failures", lost, engine.failed)
        yield CounterMetricFamily("meteor_engine_sleeps", "Times that the engine slept for a training", engine.sleeps)
        woken = "Times that it woke up and answered as before"
        yield CounterMetricFamily("meteor_engine_wakes", woken, engine.wakes)
        asked = "Answers to the fixed prompt, compared with the first one"
        probes = CounterMetricFamily("meteor_engine_probes", asked, labels=["outcome"])
        for outcome in Outcome:
            probes.add_metric([outcome.value], engine.probe.outcomes[outcome] if engine.probe else 0)
        yield probes


def text_of(engine: EngineSupervisor) -> Callable[[], bytes]:
    """The library is loaded with the first scrape, so that an engine nobody scrapes stays small."""
    metrics = EngineMetrics(engine)

    def text() -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(metrics)
        return generate_latest(registry)

    return text
