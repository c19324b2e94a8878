"""What a job will ask of strong models, as ranges: calls from its settings, tokens from the lengths of its rows.

low: the course on which every reply can be used at once and every attempt passes; high: the most that can be asked.
Before a call was made tokens are bounded by bytes (a token is at least one byte, and rarely more than five on average);
after the pilot its measured calls take the place of these bounds. Pure functions: nothing is asked of anybody.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from shared.contracts.data import Question
from shared.contracts.distillation import Distillation, Guidance, Judge, Phase, Teacher
from shared.contracts.estimate import Estimate, Price, Range, Spend
from shared.plan.allocation import rounds_of
from shared.plan.measurements import ORDERS, REPAIRED, compared_with_the_base

BYTES_PER_TOKEN = 5  # at most, on average over a text: what the lower ends assume
RULES = (100, 2000)  # bytes of a prompt beside the domain and the record's own texts
WRITTEN = 2  # tokens of a strong model at most per token that the student wrote
VERDICT = 8  # tokens of the shortest reply of a judge


class Size(NamedTuple):
    """UTF-8 bytes of a record's question and reference (0: it has none)."""

    question: int
    reference: int


class Known(NamedTuple):
    """Measured calls of one kind: mean tokens of a call, bytes of the texts that went in, and spread: the half width of
    the 95 % interval of the mean output as a share of it."""

    input_tokens: float
    output_tokens: float
    bytes: float
    spread: float


class Times(NamedTuple):
    """So many records, each asked about so often."""

    rows: int
    calls: int = 1


class Work(NamedTuple):
    """rows: by phase the records it may draw from; counts: how many of them it takes. dev, test: those that students are
    measured on. judge_measures: without references, by comparing each answer with the base's. judge_decides: unless labels
    have found it no better than chance; it is not asked then."""

    rows: Mapping[Phase, Sequence[Size]]
    counts: Mapping[Phase, int]
    dev: Sequence[Size]
    test: Sequence[Size]
    judge_measures: bool = False
    judge_decides: bool = True


class Pilot(NamedTuple):
    """What the pilot has taught: known by kind ("guided", "unguided"); usable: its answers that phase 1 gets again."""

    spend: Spend
    guidance: Guidance
    known: Mapping[str, Known]
    usable: int


def sizes(rows: Iterable[Question]) -> list[Size]:
    return [Size(len(row.text.encode()), len((row.reference or "").encode())) for row in rows]


def estimate(spec: Distillation, work: Work, prices: Mapping[str, Price], pilot: Pilot | None = None) -> Estimate:
    """prices: by provider; one that is missing leaves the USD open."""
    asking = _Asking(spec, prices, pilot.known if pilot else {})
    phases: dict[str, Spend] = {}
    if "pilot" in spec.stages:
        phases["pilot"] = pilot.spend if pilot else _pilot(asking, work)
        phases["distill"] = _distill(asking, work, pilot)
    if Phase.ITERATE in spec.phases:
        phases["iterate"] = _iterate(asking, work)
    if spec.evaluation.judged_questions or work.judge_measures:
        phases["evaluate"] = _evaluate(asking, work) + _measured(asking, work)
    total = sum(phases.values(), Spend(usd=asking.nothing))
    used = {name: prices[name] for name in (spec.teacher.provider, spec.judge.provider) if name in prices}
    return Estimate(
        basis="pilot" if pilot else "price list",
        phases=phases,
        total=total,
        prices=used,
        assumptions=_assumptions(spec, used, pilot),
    )


def summary(found: Estimate) -> str:
    """One line for people."""
    total = found.total
    line = f"the whole job: {_span(total.calls)} calls, {_span(total.input_tokens + total.output_tokens)} tokens"
    if total.usd is None:
        return f"{line}, price unknown"
    return f"{line}, {total.usd.low:.4f} to {total.usd.high:.4f} USD"


def _span(found: Range) -> str:
    low, high = round(found.low), round(found.high)
    return f"{low}" if low == high else f"{low} to {high}"


class _Asking:
    """One job's way of asking: the bounds of one call of each kind, and what many of them come to."""

    def __init__(self, spec: Distillation, prices: Mapping[str, Price], known: Mapping[str, Known]):
        self.spec = spec
        self.domain = len(spec.domain.encode())
        self.known = known
        self.prices = prices

    @property
    def nothing(self) -> Range | None:
        """The USD of no call at all: open where a price is not known."""
        asked = {self.spec.teacher.provider, self.spec.judge.provider}
        return Range() if asked <= set(self.prices) else None

    def teach(self, rows: Sequence[Size], low: Times, high: Times, guided: bool) -> Spend:
        teacher = self.spec.teacher
        return self._spend(
            teacher,
            rows,
            (low, high),
            lambda row: row.question + (row.reference if teacher.ground else 0),
            written=WRITTEN * self.spec.distill.guideline_tokens if guided else 0,
            reply=lambda row: max(1, min(teacher.max_tokens, row.reference / BYTES_PER_TOKEN)),
            limit=teacher.max_tokens,
            known=self.known.get("guided" if guided else "unguided"),
        )

    def judge(self, rows: Sequence[Size], low: Times, high: Times, written: int) -> Spend:
        """written: tokens at most of what is judged."""
        judge = self.spec.judge
        return self._spend(
            judge,
            rows,
            (low, high),
            lambda row: row.question + row.reference,
            written=written + judge.max_tokens,  # the reply that was no verdict stands in the second request
            reply=lambda _: VERDICT,
            limit=judge.max_tokens,
        )

    def _spend(
        self,
        asked: Teacher | Judge,
        rows: Sequence[Size],
        times: tuple[Times, Times],
        text: Callable[[Size], int],
        written: int,
        reply: Callable[[Size], float],
        limit: int,
        known: Known | None = None,
    ) -> Spend:
        low, high = times
        lengths = sorted(text(row) + self.domain for row in rows)
        shortest, longest = sum(lengths[: low.rows]), sum(lengths[max(0, len(lengths) - high.rows) :])
        calls = Range(low=low.rows * low.calls, high=high.rows * high.calls)
        if known is not None:
            rules = sum(RULES) / 2
            rate = known.input_tokens / (known.bytes + self.domain + rules)
            read = Range(
                low=rate * (shortest + rules * low.rows) * low.calls,
                high=rate * (longest + rules * high.rows) * high.calls,
            )
            said = Range(
                low=calls.low * known.output_tokens * (1 - known.spread),
                high=calls.high * min(limit, known.output_tokens * (1 + known.spread)),
            )
        else:
            read = Range(
                low=(shortest + RULES[0] * low.rows) / BYTES_PER_TOKEN * low.calls,
                high=(longest + (RULES[1] + written) * high.rows) * high.calls,
            )
            said = Range(low=sum(sorted(map(reply, rows))[: low.rows]) * low.calls, high=calls.high * limit)
        return Spend(calls=calls, input_tokens=read, output_tokens=said, usd=self._usd(asked, read, said))

    def _usd(self, asked: Teacher | Judge, read: Range, said: Range) -> Range | None:
        price = self.prices.get(asked.provider)
        if price is None:
            return None
        share = price.batch if asked.batch else 1.0
        return Range(low=share * price.usd(read.low, said.low), high=share * price.usd(read.high, said.high))


def _pilot(asking: _Asking, work: Work) -> Spend:
    guidance = asking.spec.guidance
    rows, n = work.rows[Phase.DISTILL], min(asking.spec.pilot.questions, work.counts[Phase.DISTILL])
    both = guidance in (Guidance.AUTO, Guidance.BEST)
    spend = Spend(usd=asking.nothing)
    if both or guidance is Guidance.NONE:
        spend += asking.teach(rows, Times(n), Times(n), guided=False)
    if both or guidance is Guidance.WEAK:
        spend += asking.teach(rows, Times(n), Times(n), guided=True)
    return spend + _compared(asking, work, rows, n) if both else spend


def _distill(asking: _Asking, work: Work, pilot: Pilot | None) -> Spend:
    """The answers of the pilot are kept: the same requests cost nothing again."""
    guidance = pilot.guidance if pilot else asking.spec.guidance
    rows, n = work.rows[Phase.DISTILL], work.counts[Phase.DISTILL]
    new = n - min(asking.spec.pilot.questions, n)
    plain = asking.teach(rows, Times(new), Times(n - pilot.usable if pilot else n), guided=False)
    guided = asking.teach(rows, Times(new), Times(n), guided=True)  # a guideline may come out otherwise
    if guidance is Guidance.BEST:
        return plain + guided + _compared(asking, work, rows, n)
    if guidance is Guidance.AUTO:
        return _either(plain, guided)
    return guided if guidance is Guidance.WEAK else plain


def _iterate(asking: _Asking, work: Work) -> Spend:
    settings, judge = asking.spec.iterate, asking.spec.judge
    rows, n = work.rows[Phase.ITERATE], work.counts[Phase.ITERATE]
    first = len(rounds_of(range(n), settings.rounds, settings.round_questions)[0])  # they end where dev shows no gain
    judged = _without_reference(rows, n) if judge.grader else (n, n)
    at_least = _without_reference(rows, first)[0] if judge.grader else first
    hinted = n - judged[1]  # a grader decides; the judge says why
    if not work.judge_decides:  # what it alone could pass is not tried
        judged, at_least = (0, 0), 0
    written = WRITTEN * asking.spec.answer_tokens  # the attempt and its reasoning, within one limit
    spend = asking.judge(rows, Times(at_least), Times(judged[1], REPAIRED * settings.tries), written)
    spend += asking.judge(rows, Times(0), Times(hinted, REPAIRED * (settings.tries - 1)), written)
    if settings.on_failure == "teacher":
        spend += asking.teach(rows, Times(0), Times(n), guided=False)
    return spend


def _evaluate(asking: _Asking, work: Work) -> Spend:
    settings = asking.spec.evaluation
    n = min(settings.judged_questions, len(work.test), settings.test_questions or len(work.test))
    calls = ORDERS + (2 if settings.absolute_scores else 0)  # both answers are scored too
    low, high = min(n, asking.spec.batch_size), Times(n, calls * REPAIRED)  # it stops when the share is known
    if settings.max_judge_calls is not None and settings.max_judge_calls < n * calls * REPAIRED:
        low = min(low, settings.max_judge_calls // (calls * REPAIRED))
        high = Times(min(n, settings.max_judge_calls // calls), calls)  # so many where no reply is asked for again
    return asking.judge(work.test, Times(low, calls), high, written=2 * WRITTEN * asking.spec.answer_tokens)


def _measured(asking: _Asking, work: Work) -> Spend:
    """Comparisons with the base's answers where these measure. Equal answers are ties without asking."""
    spend = Spend(usd=asking.nothing)
    if not work.judge_measures or not work.judge_decides:
        return spend
    written = 2 * WRITTEN * asking.spec.answer_tokens
    references = any(row.reference for rows in work.rows.values() for row in rows)
    found = compared_with_the_base(asking.spec, len(work.dev), len(work.test), references)
    for rows, (n, students) in zip((work.dev, work.test), found, strict=True):
        spend += asking.judge(rows, Times(0), Times(n, students * ORDERS * REPAIRED), written)
    return spend


def _compared(asking: _Asking, work: Work, rows: Sequence[Size], n: int) -> Spend:
    """Both answers to n questions, where not all have references and the judge must say which is better."""
    if not work.judge_decides:
        return Spend(usd=asking.nothing)
    low, high = _without_reference(rows, n)
    all_or_none = (n if low == n else 0, n if high else 0)
    written = 2 * WRITTEN * asking.spec.teacher.max_tokens
    return asking.judge(rows, Times(all_or_none[0], ORDERS), Times(all_or_none[1], ORDERS * REPAIRED), written)


def _without_reference(rows: Sequence[Size], n: int) -> tuple[int, int]:
    """How many of n of these rows have none: at least, at most."""
    bare = sum(not row.reference for row in rows)
    return max(0, n - (len(rows) - bare)), min(n, bare)


def _either(one: Spend, other: Spend) -> Spend:
    """The range that holds both."""
    spans = {}
    for name in Spend.model_fields:
        a, b = getattr(one, name), getattr(other, name)
        spans[name] = a and b and Range(low=min(a.low, b.low), high=max(a.high, b.high))
    return Spend(**spans)


def _assumptions(spec: Distillation, used: Mapping[str, Price], pilot: Pilot | None) -> list[str]:
    names = sorted({spec.teacher.provider, spec.judge.provider})
    lines = [
        "low: every reply can be used at once, every attempt passes, rounds and comparisons end as early as they can; "
        "high: all tries are used and every judge's reply is asked for twice",
        f"tokens that nothing has measured: between 1/{BYTES_PER_TOKEN} of the texts' UTF-8 bytes and all of them; "
        "answers up to max_tokens",
        "calls that fail at the provider, and answers kept from earlier jobs, are not counted",
    ]
    if spec.judge.labels:
        lines.append(f"labelled pairs that the judge may be held against, {spec.judge.labels} at most, are not counted")
    if pilot:
        lines.append("the teacher's calls: tokens per call as measured in the pilot, scaled by the questions' lengths")
    lines += [f"the price of provider {name!r} is not known" for name in names if name not in used]
    lines += [f"provider {name!r} has a price of 0" for name, price in used.items() if not price.usd(1, 1)]
    return lines
