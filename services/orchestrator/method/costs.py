"""`Costs`: what the whole job will cost, by the calls that the pilot has made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from services.orchestrator.method.pilot_responses import KEYS, PilotResponses
from shared.artifacts.material import Material
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Distillation, Guidance, Phase
from shared.contracts.estimate import Estimate, Price, Range, Spend
from shared.contracts.jobs import Usage
from shared.contracts.step_key import StepKey
from shared.plan.estimate import Known, Pilot, Work, estimate, sizes


@dataclass(frozen=True)
class Costs:
    """shards, measured: the questions to be asked. prices: of a strong model's tokens, by provider. figures: what the workers counted, by
    step key."""

    spec: Distillation
    shards: Mapping[Phase, Sequence[Question]]
    measured: Mapping[Split, Sequence[Question]]
    judge_measures: bool
    material: Material
    prices: Mapping[str, Price]
    usage_by_phase: Callable[[], Mapping[str, Usage]]
    figures: Mapping[StepKey, Mapping[str, Any]]

    def estimate(self, judge_decides: bool, guidance: Guidance, responses: PilotResponses) -> Estimate:
        """By the price of the pilot's calls, and the mean call of each way of asking the teacher."""
        known = {KEYS[way]: self._mean_call(way, responses) for way in responses.by_way}
        rows = {phase: sizes(self.shards[phase]) for phase in self.spec.phases}
        dev, test = (sizes(self.measured[split]) for split in (Split.DEV, Split.TEST))
        paid = self.usage_by_phase().get("pilot", Usage())
        spent = Spend(
            calls=_exactly(paid.teacher_calls),
            input_tokens=_exactly(paid.input_tokens),
            output_tokens=_exactly(paid.output_tokens),
            usd=_exactly(paid.usd_spent),
        )
        usable = responses.counted(Guidance.NONE, "ok")
        counts = {phase: len(shard) for phase, shard in rows.items()}
        work = Work(rows, counts, dev, test, self.judge_measures, judge_decides, self.material.bytes)
        measured = {name: call for name, call in known.items() if call is not None}
        return estimate(self.spec, work, self.prices, Pilot(spent, guidance, measured, usable))

    def _mean_call(self, way: Guidance, responses: PilotResponses) -> Known | None:
        """The mean call of one way; None where the provider counts no tokens."""
        answers = ("pilot", f"{KEYS[way]}/answers")
        figures = [step for key, step in self.figures.items() if (key.phase, key.role) == answers]
        input_tokens = sum(step.get("input_tokens", 0) for step in figures)
        output_tokens = sum(step.get("output_tokens", 0) for step in figures)
        if not input_tokens or not output_tokens:
            return None
        teacher = self.spec.teacher
        lengths = [len(response.answer.encode()) for response in responses.by_way[way]]
        asked, calls = sizes(responses.questions), len(lengths) * teacher.samples
        scatter = stdev(lengths) / fmean(lengths) if len(lengths) > 1 and any(lengths) else 1.0
        return Known(
            input_tokens=input_tokens / calls,
            output_tokens=output_tokens / calls,
            bytes=float((asked.question + asked.material + (asked.reference if teacher.ground else 0)).mean()),
            spread=min(1.0, 1.96 * scatter / len(lengths) ** 0.5),
        )


def _exactly(value: float) -> Range:
    return Range(low=value, high=value)
