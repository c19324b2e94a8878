"""What a report says about the judge: its comparison of final model and base, its own errors, its agreement with people."""

from collections.abc import Iterator

from shared.contracts.report import AbsoluteScores, JudgedComparison, JudgeFigures, JudgeReplies, LabelAgreement, Report
from shared.reporting.tables import TextTable

ENDED = {
    "margin_reached": "the share is known well enough",
    "questions_used_up": "all questions were asked",
    "budget_used_up": "evaluation.max_judge_calls leaves no room for another",
}


def judge_table(report: Report) -> TextTable | None:
    """The final model against the base by criterion, and the mean scores where the judge gave them."""
    judged = report.judged
    if judged is None:
        return None
    absolute = judged.absolute
    head = ["final model against the base", "won / tied / lost", "share, ties split"]
    rows = []
    for name, criterion in judged.criteria.items():
        cells = [name, f"{criterion.win} / {criterion.tie} / {criterion.loss}", f"{criterion.share:.3f}"]
        score = absolute.criteria.get(name) if absolute else None
        rows.append([*cells, *([f"{score.base:.2f}", f"{score.final:.2f}", f"{score.gain:+.2f}"] if score else [])])
    width = max((len(row) for row in rows), default=len(head))
    head += ["score 1-10, base", "final", "gain"][: width - len(head)]
    return TextTable(head, [row + [""] * (width - len(row)) for row in rows])


def judge_lines(report: Report) -> Iterator[str]:
    judged, judge = report.judged, report.judge
    if judged:
        yield from _of_comparison(judged)
    if judge and judge.rests_on_it:
        yield f"on the judge's word rest: {', '.join(judge.rests_on_it)}"
    if judge and judge.labels:
        yield _of_labels(judge.labels)
        yield _of_errors(judge.labels, "on the labelled pairs")
    if judge and judge.replies:
        yield _of_replies(judge.replies)
    if judge and not judge.decides:
        yield "the judge decides nothing: on the labels, or in the pilot, it is no better than chance"


def _of_comparison(judged: JudgedComparison) -> Iterator[str]:
    most = f" of at most {judged.max_calls}" if judged.max_calls else ""
    yield (
        f"{judged.n} of {judged.wanted} questions compared in both orders, {judged.calls} calls{most}; it ended there because "
        f"{ENDED[judged.ended]}"
    )
    if judged.absolute:
        yield _of_scores(judged.absolute)
    yield _of_errors(judged.judge, "in this comparison")


def _of_scores(absolute: AbsoluteScores) -> str:
    lost = ", ".join(f"{side} {n}" for side, n in absolute.unparsed.items())
    return f"scores are of {absolute.n} questions; scores that were not given: {lost or 'none'}"


def _of_errors(figures: JudgeFigures, where: str) -> str:
    bias = "" if figures.length_bias is None else f", {figures.length_bias:+.0%} more than it was better"
    return (
        f"the judge {where}, {figures.n} pairs: {figures.flip_rate:.0%} of its verdicts turn with the order, it prefers the "
        f"first shown in {figures.preferred_the_first_shown:.0%} and the longer in {figures.preferred_the_longer:.0%}{bias}; "
        f"{figures.unparsed} verdicts could not be read"
    )


def _of_replies(replies: JudgeReplies) -> str:
    return (
        f"the judge's replies: {replies.calls}, of which {replies.mended} had slips that were read as they are meant, and "
        f"{replies.repairs} were asked for once more; {replies.cut_off} were cut off at judge.max_tokens, {replies.empty} empty"
    )


def _of_labels(labels: LabelAgreement) -> str:
    kappa = "not defined" if labels.kappa is None else f"{labels.kappa:.2f}"
    better = {True: "better than chance", False: "no better than chance", None: "too few to tell it from chance"}
    return (
        f"the judge agrees with {labels.agreement:.0%} of {labels.n} human labels ({better[labels.better_than_chance]}); chance "
        f"is {labels.chance:.0%}, kappa {kappa}. Where both name a winner: {labels.decided:.0%} of {labels.n_decided}"
    )
