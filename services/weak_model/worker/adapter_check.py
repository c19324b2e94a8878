"""Whether the engine answers with an adapter as the trainer does. An engine may load an adapter and leave it out without a word,
where its tensors have other names than the engine's model."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Protocol

from pydantic import ValidationError

from services.weak_model.worker.student_client import EngineRefused, StudentClient
from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import FILE, KEY, AdapterCheck, AdapterLogprobs
from shared.contracts.errors import FatalError
from shared.contracts.steps import ModelRef

VISIBLE = 0.02  # nats a token; an adapter that moves less cannot be told from rounding
IGNORED = 0.1  # the engine's change as a share of the trainer's, below which there is none
SHARE = (0.5, 1.5)  # of the trainer's change that the engine may show
TOLERANCE = 0.25  # nats a token between engine and trainer; bfloat16 against float32 takes up to 0.05
NOT_FINITE = "float values are not JSON compliant"  # how vLLM refuses to send infinities and what is no number


class Scores(Protocol):
    """An engine's log-probabilities of given token ids, each after those before it; None for the first."""

    async def prompt_logprobs(self, model: str, prompts: Sequence[Sequence[int]]) -> list[list[float | None]]: ...


async def check(engine: StudentClient, artifacts: Artifacts, ref: ModelRef) -> dict[str, Any]:
    """For a step's metrics; empty for a student without an adapter. Raises FatalError `adapter_ignored`."""
    if ref.adapter is None:
        return {}
    try:
        figures = await compared(engine, left_by_trainer(artifacts, ref.adapter), ref, engine.url)
    except EngineRefused as refusal:
        raise engine.as_error(refusal, ref.adapter) from refusal
    return {KEY: figures.model_dump(mode="json", exclude_none=True)}


def left_by_trainer(artifacts: Artifacts, adapter: str) -> AdapterLogprobs | str:
    """What the trainer measured, or why it is not known."""
    path = artifacts.folder(adapter) / FILE
    if not path.is_file():
        return "it was trained before log-probabilities were kept beside adapters"
    try:
        return AdapterLogprobs.model_validate_json(path.read_bytes())
    except ValidationError as error:
        return f"{FILE} beside it cannot be read: {error.errors()[0]['msg']}"


async def compared(engine: Scores, trained: AdapterLogprobs | str, ref: ModelRef, url: str) -> AdapterCheck:
    """trained: a text says why there is nothing to compare with.

    Raises FatalError `adapter_ignored` or `engine_not_finite`, EngineRefused for an adapter that the engine does not load.
    """
    name = ref.engine_name
    if isinstance(trained, str):
        return AdapterCheck(adapter=name, state="unchecked", reason=trained)
    prompts = [row.ids for row in trained.rows]
    try:
        base = await _finite(engine, ref.base, prompts, url)
    except EngineRefused as refusal:
        reason = f"the engine does not give log-probabilities of given tokens: {refusal}"
        return AdapterCheck(adapter=name, state="unchecked", reason=reason)
    figures = judged(name, trained, base, await _finite(engine, name, prompts, url))
    if (figures.trainer_change or 0) >= VISIBLE and (figures.engine_change or 0) < IGNORED * (
        figures.trainer_change or 0
    ):
        raise FatalError(
            f"the engine at {url} ignores the adapter {name} of {ref.base!r}: in training it changed the log-probability of "
            f"{figures.tokens} learned tokens by {figures.trainer_change:.2f} nats each, in the engine by {figures.engine_change:.2f}. "
            "The names of its tensors, or the modules it sits on, are not those of the engine's model. Train all weights "
            "(distillation.adapter.method full), name other distillation.adapter.targets, take another student, or give the "
            "engine another version of vLLM",
            code="adapter_ignored",
        )
    return figures


async def _finite(engine: Scores, model: str, prompts: Sequence[Sequence[int]], url: str) -> list[list[float | None]]:
    """Raises FatalError `engine_not_finite` for a model of which the engine computes infinities or no numbers at all."""
    try:
        return await engine.prompt_logprobs(model, prompts)
    except EngineRefused as refusal:
        if NOT_FINITE not in refusal.message:
            raise
        raise FatalError(
            f"the engine at {url} computes log-probabilities of {model} that are no finite numbers, so its answers mean nothing. "
            "Start it with METEOR_ENGINE_DTYPE=float32, give it another version of vLLM, or take another student",
            code="engine_not_finite",
        ) from refusal


def judged(
    adapter: str,
    trained: AdapterLogprobs,
    base: Sequence[Sequence[float | None]],
    adapted: Sequence[Sequence[float | None]],
) -> AdapterCheck:
    """base, adapted: the engine's, per row and token."""
    learned = [
        (without, with_, _at(base_row, place), _at(adapted_row, place))
        for row, base_row, adapted_row in zip(trained.rows, base, adapted, strict=True)
        for place, without, with_ in zip(row.scored, row.base, row.adapter, strict=True)
    ]
    moved = [(with_ - without, engine_with - engine) for without, with_, engine, engine_with in learned]
    change, engine_change = (fmean(abs(pair[side]) for pair in moved) for side in (0, 1))
    square = sum(ours * ours for ours, _ in moved)
    share = sum(ours * theirs for ours, theirs in moved) / square if square else None
    apart = fmean(abs(engine_with - with_) for _, with_, _, engine_with in learned)
    apart_base = fmean(abs(engine - without) for without, _, engine, _ in learned)
    figures = AdapterCheck(
        adapter=adapter,
        state="agrees",
        tokens=len(learned),
        trainer_change=round(change, 4),
        engine_change=round(engine_change, 4),
        share=None if share is None else round(share, 3),
        apart=round(apart, 4),
        apart_base=round(apart_base, 4),
    )
    reason = _difference(figures)
    return figures.model_copy(update={"state": "differs", "reason": reason}) if reason else figures


def _difference(figures: AdapterCheck) -> str:
    """What a reader must know; empty where engine and trainer agree."""
    change, share, apart, apart_base = (
        figures.trainer_change or 0,
        figures.share,
        figures.apart or 0,
        figures.apart_base or 0,
    )
    if apart > TOLERANCE:
        where = "also without the adapter, by" if apart_base > TOLERANCE else "without the adapter by"
        return (
            f"its log-probabilities of {figures.tokens} learned tokens are {apart:.2f} nats each away from the trainer's "
            f"({where} {apart_base:.2f}); {TOLERANCE} are tolerated"
        )
    if share is not None and change >= 5 * VISIBLE and not SHARE[0] <= share <= SHARE[1]:
        return f"it shows {share:.0%} of the change that the adapter made in training"
    return ""


def _at(row: Sequence[float | None], place: int) -> float:
    """Raises FatalError for a row that is shorter than what was sent."""
    value = row[place] if place < len(row) else None
    if value is None:
        raise FatalError("the engine left out log-probabilities of tokens that it was sent", code="engine_refused")
    return value
