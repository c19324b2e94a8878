"""Absolute scores from 1 to 10 (paper section 4): all criteria in one reply."""

from collections.abc import Sequence

from services.judge.structured_reply import JudgeClient
from shared.contracts.rows import AnswerScores, JudgeInput
from shared.contracts.steps import JudgeParams
from shared.judging.prompts import rate_messages
from shared.judging.replies import Rating
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress, run_rows


async def rate(
    gateway: GatewayClient,
    params: JudgeParams,
    rows: list[JudgeInput],
    progress: OnProgress,
    material: Sequence[str] = (),
) -> tuple[list[AnswerScores], dict[str, int]]:
    """Scores per row, in the rows' order, and counts. material: texts that are shown with every row.
    Raises what GatewayClient.chat raises."""
    judge = JudgeClient(gateway, params, material)

    async def rate_row(row: JudgeInput) -> AnswerScores:
        rating, call = await judge.ask(Rating, rate_messages(judge.params.domain, row), row)
        scores = rating.model_dump() if rating is not None else {}
        return AnswerScores(id=row.id, scores=scores, parsed=rating is not None, call_id=call.call_id)

    ratings = await run_rows(rate_row, rows, progress)
    return ratings, {"n": len(ratings), "unparsed": sum(not item.parsed for item in ratings)} | judge.counts()
