"""What each phase of a job did, in lines: how much was asked for, kept, dropped, and why."""

from collections.abc import Iterator, Mapping

from shared.contracts.phase_records import (
    AgreementRecord,
    DevGain,
    DistillRecord,
    EvolveIteration,
    PhaseRecords,
    PilotRecord,
    ReferencePairs,
    RoundRecord,
    SampleFigures,
    TrainingFigures,
)


def phase_lines(phases: PhaseRecords) -> list[str]:
    lines = [*_pilot(phases.pilot)] if phases.pilot else []
    if phases.distill:
        lines.append(_distill(phases.distill))
    lines += [_round(number, record) for number, record in enumerate(phases.rounds, start=1)]
    lines += [_turn(number, record) for number, record in enumerate(phases.turns, start=1)]
    return lines


def _pilot(pilot: PilotRecord) -> Iterator[str]:
    usable = ", ".join(f"{count} with guidance {way}" for way, count in pilot.usable.items())
    yield f"pilot: of {pilot.questions} answers each way can be used: {usable}; guidance: {pilot.guidance}"
    if cut_off := ", ".join(f"{n} {what}" for what, n in (pilot.cut_off or {}).items() if n):
        yield f"pilot: cut off at their limit of tokens: {cut_off}"
    if gate := pilot.judge:
        yield (
            f"pilot: of {gate.n} pairs with an answer to another question the judge told {gate.told:.0%}; {gate.turned} verdicts turned with "
            f"the order, {gate.unparsed} could not be read; it may decide: {'yes' if gate.passed else 'no'}"
        )
    if pilot.gain is not None:
        nll = pilot.student_nll
        change = f" ({nll.change:+.3f})" if nll and nll.change else ""
        closer = f"; the student's NLL on {nll.n}: {nll.unguided} -> {nll.guided}{change}" if nll and nll.n else ""
        compared = f" ({pilot.compared} compared)" if pilot.compared is not None else ""
        yield f"pilot: guided against unguided answers {pilot.gain:+.3f}{compared}, {pilot.decision}{closer}"


def _distill(record: DistillRecord) -> str:
    guidance = f" with guidance {record.guidance}" if record.guidance else ""
    cut_off = record.cut_off_guidelines
    unseen = f"; {cut_off} guidelines cut off at guideline_tokens, which the teacher was not shown" if cut_off else ""
    return (
        f"distill: {record.kept} of {record.questions} answers kept, dropped {_reasons(record.dropped)}{unseen}"
        f"; answers of the {record.answers}{guidance}{_agreed(record.agreement)}{_replaced(record.from_reference)}{_training(record.training)}"
    )


def _replaced(questions: int | None) -> str:
    return "" if questions is None else f"; the reference of {questions} questions, where no answer passed"


def _agreed(agreement: AgreementRecord | None) -> str:
    if agreement is None:
        return ""
    votes = ", ".join(f"{votes}: {count}" for votes, count in agreement.questions_by_votes.items())
    return f"; of {agreement.samples} samples {agreement.mean:.0%} agree on average (questions by votes: {votes})"


def _round(number: int, record: RoundRecord) -> str:
    rates = ", ".join(f"try {t}: {rate:.0%}" for t, rate in enumerate(record.pass_rate, start=1))
    asked = ", ".join(map(str, record.asked_by_try))
    counts = (
        (record.missing_markers, "answers without the marker"),
        (record.undecidable, "more not tried, nobody can say what passes"),
        (record.unparsed_verdicts, "verdicts could not be read"),
        (record.too_long, "questions too long for the model's context"),
        (record.cut_off, "attempts cut off at answer_tokens, which passed nowhere"),
    )
    dev = record.dev
    tried = f"passed within {rates} of {record.questions - record.undecidable} questions; " if rates else ""
    return (
        f"iterate, round {number}: {_sampled(record.sampled)}{tried}"
        f"{record.corrected} answered by the teacher; {record.leaked_hints} hints dropped because they told the answer"
        + (f"; {record.passed} passed in all, {record.with_rationale} with a rationale" if record.passed else "")
        + (f"; asked by try: {asked}" if asked else "")
        + "".join(f"; {count} {what}" for count, what in counts if count)
        + (f"; corrections dropped {_reasons(record.dropped_corrections)}" if record.dropped_corrections else "")
        + (f"; gain over the best round before, on dev {_chosen(dev)}" if dev else "")
        + _training(record.training)
    )


def _sampled(figures: SampleFigures | None) -> str:
    if figures is None:
        return ""
    gate = f"; pass@{figures.samples} less pass@1: {figures.gate:.0%}" if figures.gate is not None else ""
    return f"{figures.words}{gate}; {figures.kept} kept; "


def _turn(number: int, record: EvolveIteration) -> str:
    """With the mean tokens of both sides, of all pairs and of those that were trained on."""
    figures, training = record.search, record.training
    parts = [
        f"{name} {one.mean_tokens_chosen} chosen, {one.mean_tokens_rejected} rejected"
        for name, one in (("mean tokens", figures), ("of the trained pairs", training))
        if one and one.mean_tokens_chosen is not None
    ]
    return (
        f"evolve, turn {number}: {_sampled(record.sampled)}{record.pairs} pairs from {record.questions} questions by {record.strategy}, "
        f"dropped {_reasons(record.dropped)}{_by_references(record.from_references)}"
        + "".join(f"; {part}" for part in parts)
        + (f"; gain over the best turn before, on dev {_chosen(record.dev)}" if record.dev else "")
        + _training(training)
    )


def _by_references(made: ReferencePairs | None) -> str:
    if made is None:
        return ""
    return f"; {made.pairs} of the pairs prefer the reference, for {made.questions} questions of which no sample passed"


def _chosen(dev: DevGain) -> str:
    return f"{dev.gain:+.3f}, {'kept' if dev.kept else 'not kept'}"


def _training(figures: TrainingFigures | None) -> str:
    """How training changed loss and margin, and what it could not take."""
    if figures is None:
        return ""
    text = ""
    if figures.loss is not None and figures.loss_first is not None:
        text += f"; training loss {figures.loss_first:.3f} -> {figures.loss:.3f} (first and last quarter of its steps)"
    if figures.dropped_too_long:
        text += f"; {figures.dropped_too_long} too long to train on"
    if seen := figures.held_out:
        return text + (
            f"; on {seen.pairs} pairs held out: chosen preferred in {seen.preferred_first:.0%} -> {seen.preferred:.0%}, "
            f"margin {seen.margin_first:.3f} -> {seen.margin:.3f}, log-probability of the chosen side "
            f"{seen.chosen_first:.3f} -> {seen.chosen:.3f} nats a token"
        )
    if figures.margin is not None and figures.margin_first is not None:
        text += f"; margin {figures.margin_first:.3f} -> {figures.margin:.3f}"
    if figures.reward_accuracy is not None:
        text += f", chosen preferred in {figures.reward_accuracy:.0%} of them"
    return text


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"
