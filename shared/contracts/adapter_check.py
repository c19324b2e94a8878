"""Whether an engine answers with an adapter as the trainer does: the trainer's figures, and the result of the comparison."""

from typing import Literal

from shared.contracts.steps import Wire

FILE = "logprobs.json"  # beside an adapter among the artifacts; it holds training rows, so it goes into no export
KEY = "adapter_check"  # in the metrics of a step that asked an adapter


class ScoredRow(Wire):
    """One training row. scored: the places in ids whose tokens the training learned, none of them the first. base, adapter: the
    log-probability of the token at each of these places without and with the adapter, in nats."""

    ids: list[int]
    scored: list[int]
    base: list[float]
    adapter: list[float]


class AdapterLogprobs(Wire):
    """What the training process saw of a few rows after the last step."""

    rows: list[ScoredRow]


class EngineTrial(Wire):
    """What came of starting an engine with a trained adapter. code: adapter_ignored, engine_not_finite, engine_not_started or
    engine_unavailable (it died of the first request); reason: for people. Both empty when ok."""

    ok: bool
    code: str = ""
    reason: str = ""


class AdapterCheck(Wire):
    """Means over the scored tokens, in nats.

    state: "differs" is a warning; an adapter that the engine ignores is an error and has no such object. reason: of "differs" and
    "unchecked", for people. trainer_change, engine_change: how far the adapter moved the log-probabilities there. share: of the
    trainer's change that the engine shows; 1 is all of it. apart, apart_base: between engine and trainer with the adapter and
    without.
    """

    adapter: str
    state: Literal["agrees", "differs", "unchecked"]
    reason: str = ""
    tokens: int = 0
    trainer_change: float | None = None
    engine_change: float | None = None
    share: float | None = None
    apart: float | None = None
    apart_base: float | None = None
