"""What a job will ask of strong models, as ranges: calls from its settings, tokens from the lengths of its rows.

low: every reply can be used at once and every attempt passes; high: the most that can be asked.
Before the first call tokens are bounded by bytes (a token is at least one byte, and rarely more than five on average);
after the pilot its measured calls replace these bounds. Pure functions: no model is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.data import Question, Split
from shared.contracts.distillation import Distillation, Guidance, Judge, Phase, Teacher
from shared.contracts.estimate import Estimate, Price, Range, Spend
from shared.contracts.grader_kinds import models_of
from shared.contracts.steps import StepKind
from shared.plan.plan import PILOT, REPAIRED, WRITTEN, Calls, PilotOutcome, PlannedStep, Pool, Sizes, make_plan
from shared.plan.rates import rationale_tokens

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

BYTES_PER_TOKEN = 5  # at most, on average over a text: what the lower ends assume
RULES = (100, 2000)  # bytes of a prompt beside the domain and the record's own texts
VERDICT = 8  # tokens of the shortest reply of a judge
# What is likely, within those bounds.
LIKELY_BYTES = 2.5  # per token, at least, on average: dense code, or a script of three bytes a letter
LIKELY_RULES = 1200  # bytes of a prompt beside the texts
LIKELY_ANALYSIS = 80  # tokens of two or three sentences
LIKELY_VERDICT, LIKELY_REPLY = (
    100,
    300,
)  # tokens of a judge's reply with a hint; of an answer where no reference shows its length
ASKED_AGAIN = 0.1  # share of a judge's replies that are asked for once more


@dataclass(frozen=True)
class TextBytes:
    """Of many records, the UTF-8 bytes of the question, of the reference, and of the material for strong models alone (0: it has
    none)."""

    question: "np.ndarray"
    reference: "np.ndarray"
    material: "np.ndarray"

    def __len__(self) -> int:
        return len(self.question)

    @property
    def bare(self) -> int:
        """Records without a reference."""
        return int((self.reference == 0).sum())


class Known(NamedTuple):
    """Measured calls of one kind: mean tokens of a call, bytes of the texts that went in, and spread: the half width of
    the 95 % interval of the mean output as a share of it."""

    input_tokens: float
    output_tokens: float
    bytes: float
    spread: float


class Work(NamedTuple):
    """rows: by phase the records it may draw from; counts: how many of them it takes. dev, test: those that students are
    measured on. judge_measures: without references, by comparing each answer with the base's. judge_decides: unless labels
    have found it no better than chance; it is not asked then. material: bytes that teacher and judge are shown with every row."""

    rows: Mapping[Phase, TextBytes]
    counts: Mapping[Phase, int]
    dev: TextBytes
    test: TextBytes
    judge_measures: bool = False
    judge_decides: bool = True
    material: int = 0

    @property
    def sizes(self) -> Sizes:
        return Sizes(
            self.counts,
            {phase: Pool(len(rows), rows.bare) for phase, rows in self.rows.items()},
            len(self.dev),
            len(self.test),
            references=any(rows.bare < len(rows) for rows in self.rows.values()),
            judge_measures=self.judge_measures,
            judge_decides=self.judge_decides,
        )

    def about(self, part: Phase | Split) -> TextBytes:
        if isinstance(part, Phase):
            return self.rows[part]
        return self.dev if part is Split.DEV else self.test


class Pilot(NamedTuple):
    """What the pilot has taught: known by kind ("guided", "unguided"); usable: its answers that phase 1 gets again."""

    spend: Spend
    guidance: Guidance
    known: Mapping[str, Known]
    usable: int


def sizes(rows: Iterable[Question]) -> TextBytes:
    import numpy as np

    texts = ((row.text, row.reference or "", row.teacher_context or "") for row in rows)
    lengths = np.array([[len(text.encode()) for text in each] for each in texts], dtype=np.int64).reshape(-1, 3)
    return TextBytes(*lengths.T)


def estimate(spec: Distillation, work: Work, prices: Mapping[str, Price], pilot: Pilot | None = None) -> Estimate:
    """prices: by provider; one that is missing leaves the USD open."""
    asking = _Asking(spec, prices, pilot.known if pilot else {}, work.material)
    plan = make_plan(spec, work.sizes, PilotOutcome(pilot.guidance, pilot.usable) if pilot else None)
    phases: dict[str, Spend] = {}
    for stage in plan.stages:
        steps = [step for step in stage.steps if step.asks_strong_model]
        if pilot and stage.name == PILOT:
            phases[stage.name] = pilot.spend
        elif steps:
            phases[stage.name] = asking.stage(steps, work)
    total = sum(phases.values(), Spend(usd=asking.nothing))
    used = {name: prices[name] for name in _asked(spec) if name in prices}
    return Estimate(
        basis="pilot" if pilot else "price list",
        phases=phases,
        total=total,
        prices=used,
        assumptions=_assumptions(spec, used, pilot),
    )


def summary(estimate: Estimate) -> str:
    """One line for people."""
    total = estimate.total
    line = f"the whole job: {_span(total.calls)} calls, {_span(total.input_tokens + total.output_tokens)} tokens"
    if total.usd is None:
        return f"{line}, price unknown"
    return f"{line}, {total.usd.low:.4f} to {total.usd.high:.4f} USD"


def _span(span: Range) -> str:
    low, high = round(span.low), round(span.high)
    return f"{low}" if low == high else f"{low} to {high}"


def _asked(spec: Distillation) -> list[str]:
    """The strong models that a job names, each once."""
    graders = [part.model for grader in spec.verifying for part in models_of(grader)]
    return list(dict.fromkeys([spec.teacher.provider, spec.judge.provider, *graders]))


class _Asking:
    """One job's way of asking: the bounds of one call of each kind, and what many of them come to."""

    def __init__(self, spec: Distillation, prices: Mapping[str, Price], known: Mapping[str, Known], material: int = 0):
        self.spec = spec
        self.shown = len(spec.domain.encode()) + material  # with every row
        self.known = known
        self.prices = prices

    @property
    def nothing(self) -> Range | None:
        """The USD of no call at all: open where a price is not known."""
        asked = set(_asked(self.spec))
        return Range() if asked <= set(self.prices) else None

    def stage(self, steps: Sequence[PlannedStep], work: Work) -> Spend:
        spends = [self.step(step, work.about(step.about)) for step in steps if not step.alternative]
        alternatives = [self.step(step, work.about(step.about)) for step in steps if step.alternative]
        if alternatives:
            spends.append(reduce(_either, alternatives))
        return reduce(Spend.__add__, spends)

    def step(self, step: PlannedStep, rows: TextBytes) -> Spend:
        import numpy as np

        times = (step.least, step.most)
        rows = TextBytes(*(column.astype(np.int64) for column in (rows.question, rows.reference, rows.material)))
        if step.kind is StepKind.TEACH:
            teacher, reasoning = self.spec.teacher, rationale_tokens(self.spec)
            return self._spend(
                teacher,
                times,
                rows.question + rows.material + (rows.reference if teacher.ground else 0),
                written=WRITTEN * self.spec.distill.guideline_tokens if step.guided else 0,
                reply=(rows.reference / BYTES_PER_TOKEN).clip(1, teacher.max_tokens),
                likely=np.where(rows.reference > 0, rows.reference * 1.5 / LIKELY_BYTES + 10, LIKELY_REPLY) + reasoning,
                limit=teacher.max_tokens,
                known=self.known.get("guided" if step.guided else "unguided"),
            )
        if step.grader is not None:
            said = sum(len(template.encode()) for template in step.grader.templates)
            return self._spend(
                Teacher.model_construct(provider=step.grader.model),
                times,
                rows.question + rows.reference + said,
                written=step.written + step.grader.max_tokens,
                reply=np.full(len(rows), VERDICT),
                likely=np.full(len(rows), LIKELY_VERDICT),
                limit=step.grader.max_tokens,
                repaired=True,
            )
        judge = self.spec.judge
        return self._spend(
            judge,
            times,
            rows.question + rows.material + rows.reference,
            written=step.written + judge.max_tokens,  # a reply that was no verdict stands in the second request
            reply=np.full(len(rows), VERDICT),
            likely=np.full(len(rows), LIKELY_VERDICT + (LIKELY_ANALYSIS if judge.analysis else 0)),
            limit=judge.max_tokens,
            repaired=True,
        )

    def _spend(
        self,
        asked: Teacher | Judge,
        times: tuple[Calls, Calls],
        text: "np.ndarray",
        written: int,
        reply: "np.ndarray",
        likely: "np.ndarray",
        limit: int,
        known: Known | None = None,
        repaired: bool = False,
    ) -> Spend:
        """text, reply, likely: by row, the bytes of its texts, and the tokens of a reply at least and likely."""
        low, high = times
        lengths = text + self.shown
        lengths.sort()
        reply.sort()
        shortest, longest = _sum(lengths[: low.rows]), _sum(lengths[max(0, len(lengths) - high.rows) :])
        calls = Range(low=low.total, high=high.total)
        if known is not None:
            rules = sum(RULES) / 2
            rate = known.input_tokens / (known.bytes + self.shown + rules)
            read = Range(
                low=rate * (shortest + rules * low.rows) * low.each,
                high=rate * (longest + rules * high.rows) * high.each,
            )
            said = Range(
                low=calls.low * known.output_tokens * (1 - known.spread),
                high=calls.high * min(limit, known.output_tokens * (1 + known.spread)),
            )
        else:
            read = Range(
                low=(shortest + RULES[0] * low.rows) / BYTES_PER_TOKEN * low.each,
                high=(longest + (RULES[1] + written) * high.rows) * high.each,
            )
            said = Range(low=_sum(reply[: low.rows]) * low.each, high=calls.high * limit)
            each = high.each / REPAIRED * (1 + ASKED_AGAIN) if repaired else high.each
            likely = likely.clip(max=limit)
            likely.sort()
            longest_replies = likely[max(0, len(likely) - high.rows) :]
            beside = LIKELY_RULES / LIKELY_BYTES + min(written / WRITTEN / 2, LIKELY_REPLY)
            read = _likely(read, (longest / LIKELY_BYTES + beside * high.rows) * each)
            said = _likely(said, _sum(longest_replies) * each)
        return Spend(calls=calls, input_tokens=read, output_tokens=said, usd=self._usd(asked, read, said))

    def _usd(self, asked: Teacher | Judge, read: Range, said: Range) -> Range | None:
        price = self.prices.get(asked.provider)
        if price is None:
            return None
        share = price.batch if asked.batch else 1.0
        spans = ((read.low, said.low), (read.high, said.high), (_most(read), _most(said)))
        low, high, most = (share * price.usd(*tokens) for tokens in spans)
        return Range(low=low, high=high, at_most=most if most > high else None)


def _sum(values: "np.ndarray") -> float:
    return float(values.sum())


def _likely(bounds: Range, high: float) -> Range:
    """The bounds with what is likely inside them; their upper one is what it may be at most."""
    return Range(low=bounds.low, high=max(bounds.low, min(high, bounds.high)), at_most=bounds.high)


def _most(span: Range) -> float:
    return span.high if span.at_most is None else span.at_most


def _either(one: Spend, other: Spend) -> Spend:
    """The range that holds both."""
    spans = {}
    for name in Spend.model_fields:
        a, b = getattr(one, name), getattr(other, name)
        spans[name] = a and b and Range(low=min(a.low, b.low), high=max(a.high, b.high))
        if a and b and (a.at_most is not None or b.at_most is not None):
            spans[name].at_most = max(_most(a), _most(b))
    return Spend(**spans)


def _assumptions(spec: Distillation, used: Mapping[str, Price], pilot: Pilot | None) -> list[str]:
    names = sorted(_asked(spec))
    lines = [
        "low: every reply can be used at once, every attempt passes, rounds and comparisons end as early as they can; "
        "high: all tries are used and every judge's reply is asked for twice",
        "tokens that nothing has measured: by the texts' lengths, from 5 to 2.5 bytes a token, and answers as long as the "
        "references; a model that thinks before it answers writes more. At most: a token per byte, and answers up to max_tokens",
        "calls that fail at the provider, and answers kept from earlier jobs, are not counted",
    ]
    if spec.teacher.samples > 1:
        lines.append(
            f"teacher.samples: {spec.teacher.samples} calls for each question, each of which reads the whole prompt"
        )
    if spec.judge.labels:
        lines.append(f"labelled pairs that the judge may be held against, {spec.judge.labels} at most, are not counted")
    if pilot:
        lines.append("the teacher's calls: tokens per call as measured in the pilot, scaled by the questions' lengths")
    lines += [f"the price of provider {name!r} is not known" for name in names if name not in used]
    lines += [f"provider {name!r} has a price of 0" for name, price in used.items() if not price.usd(1, 1)]
    return lines
