"""Which of two answers is better: asked in both orders, because judges favour the answer they see first (or last).

A criterion is won only where both orders agree; where they do not it is a tie, and counted as flipped.
"""

from collections import Counter

from services.judge.prompts import CRITERIA, compare_messages
from services.judge.replies import Choice
from services.judge.structured_reply import Asking, Progress
from shared.contracts.rows import ComparisonInput, Preference
from shared.contracts.steps import JudgeParams
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import run_rows

SEEN = {"A": "first", "B": "second", "tie": "tie"}
TURNED = {"A": "second", "B": "first", "tie": "tie"}


async def compare(
    gateway: GatewayClient, params: JudgeParams, rows: list[ComparisonInput], progress: Progress
) -> tuple[list[Preference], dict[str, float]]:
    """A preference per row, in the rows' order, and the judge's own figures. Raises what GatewayClient.chat raises."""
    asking = Asking(gateway, params)

    async def asked(row: ComparisonInput) -> tuple[Choice | None, ChatReply]:
        return await asking.ask(Choice, compare_messages(params.domain, row), row.id)

    async def one(row: ComparisonInput) -> tuple[Preference, list[Choice | None]]:
        turned = row.model_copy(update={"first": row.second, "second": row.first})
        (seen, reply), (back, reply_back) = await run_rows(asked, (row, turned), lambda _done, _total: None)
        calls = [r.call_id for r in (reply, reply_back) if r.call_id]
        return agreed(row.id, seen, back, calls), [seen, back]

    pairs = await run_rows(one, rows, progress)
    preferences = [preference for preference, _ in pairs]
    return preferences, tally(preferences, [choice for _, both in pairs for choice in both]) | asking.counts()


def agreed(row_id: str, seen: Choice | None, turned: Choice | None, calls: list[str]) -> Preference:
    """One preference out of the verdicts in both orders. Without one of them all criteria are ties."""
    if seen is None or turned is None:
        return Preference(id=row_id, winners=dict.fromkeys(CRITERIA, "tie"), parsed=False, call_ids=calls)
    winners, flipped = {}, []
    for name in CRITERIA:
        one, other = SEEN[getattr(seen, name)], TURNED[getattr(turned, name)]
        winners[name] = one if one == other else "tie"
        flipped += [name] if one != other else []
    return Preference(id=row_id, winners=winners, flipped=flipped, call_ids=calls)


def tally(preferences: list[Preference], choices: list[Choice | None]) -> dict[str, float]:
    """The judge's own quality: replies without a verdict, verdicts that turn with the order, and how often it preferred
    the answer shown as A, and as B. Over both orders a judge that looks at the answers alone says each as often."""
    overall = Counter(choice.overall for choice in choices if choice is not None)
    return {
        "n": len(preferences),
        "unparsed": sum(not p.parsed for p in preferences),
        "flipped": sum("overall" in p.flipped for p in preferences),
        "preferred_a": overall["A"],
        "preferred_b": overall["B"],
    }
