"""Which of two answers is better, asked in both orders because judges favour the answer they see first (or last).

A criterion is won only where both orders agree. Where they do not it is a tie, and counted as flipped.
"""

from collections import Counter
from collections.abc import Sequence

from services.judge.structured_reply import JudgeClient
from shared.contracts.rows import ComparisonInput, Preference
from shared.contracts.steps import JudgeParams
from shared.judging.prompts import CRITERIA, compare_messages
from shared.judging.replies import Choice
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import OnProgress, run_rows

SIDES = {"A": "first", "B": "second", "tie": "tie"}
SWAPPED_SIDES = {"A": "second", "B": "first", "tie": "tie"}


async def compare(
    gateway: GatewayClient,
    params: JudgeParams,
    rows: list[ComparisonInput],
    progress: OnProgress,
    material: Sequence[str] = (),
) -> tuple[list[Preference], dict[str, float]]:
    """A preference per row, in the rows' order, and the judge's own figures. material: texts that are shown with every row.
    Raises what GatewayClient.chat raises."""
    judge = JudgeClient(gateway, params, material)

    async def choose(row: ComparisonInput) -> tuple[Choice | None, ChatReply]:
        return await judge.ask(Choice, compare_messages(judge.params.domain, row), row)

    async def compare_row(row: ComparisonInput) -> tuple[Preference, list[Choice | None]]:
        swapped = row.model_copy(update={"first": row.second, "second": row.first})
        (choice, call), (other, other_call) = await run_rows(choose, (row, swapped), lambda _done, _total: None)
        calls = [reply.call_id for reply in (call, other_call) if reply.call_id]
        return agreed(row.id, choice, other, calls), [choice, other]

    pairs = await run_rows(compare_row, rows, progress)
    preferences = [preference for preference, _ in pairs]
    return preferences, tally(preferences, [choice for _, choices in pairs for choice in choices]) | judge.counts()


def agreed(row_id: str, choice: Choice | None, swapped: Choice | None, calls: list[str]) -> Preference:
    """One preference from the verdicts in both orders. If one is missing, all criteria are ties."""
    if choice is None or swapped is None:
        return Preference(id=row_id, winners=dict.fromkeys(CRITERIA, "tie"), parsed=False, call_ids=calls)
    sides = {name: (SIDES[getattr(choice, name)], SWAPPED_SIDES[getattr(swapped, name)]) for name in CRITERIA}
    winners = {name: first if first == second else "tie" for name, (first, second) in sides.items()}
    flipped = [name for name, (first, second) in sides.items() if first != second]
    return Preference(id=row_id, winners=winners, flipped=flipped, call_ids=calls)


def tally(preferences: list[Preference], choices: list[Choice | None]) -> dict[str, float]:
    """The judge's own quality: replies without a verdict, verdicts that flip with the order, and how often it preferred the
    answer shown as A, and as B. Over both orders an unbiased judge prefers each equally often."""
    overall = Counter(choice.overall for choice in choices if choice is not None)
    return {
        "n": len(preferences),
        "unparsed": sum(not p.parsed for p in preferences),
        "flipped": sum("overall" in p.flipped for p in preferences),
        "preferred_a": overall["A"],
        "preferred_b": overall["B"],
    }
