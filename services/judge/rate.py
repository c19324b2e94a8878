"""How good an answer is, on a scale from 1 to 10 (paper section 4): all criteria in one reply."""

from services.judge.prompts import rate_messages
from services.judge.replies import Rating
from services.judge.structured_reply import Asking, Progress
from shared.contracts.rows import AnswerScores, JudgeInput
from shared.contracts.steps import JudgeParams
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import run_rows


async def rate(
    gateway: GatewayClient, params: JudgeParams, rows: list[JudgeInput], progress: Progress
) -> tuple[list[AnswerScores], dict[str, int]]:
    """Scores per row, in the rows' order, and counts. Raises what GatewayClient.chat raises."""
    asking = Asking(gateway, params)

    async def one(row: JudgeInput) -> AnswerScores:
        said, reply = await asking.ask(Rating, rate_messages(params.domain, row), row.id)
        scores = said.model_dump() if said is not None else {}
        return AnswerScores(id=row.id, scores=scores, parsed=said is not None, call_id=reply.call_id)

    rated = await run_rows(one, rows, progress)
    return rated, {"n": len(rated), "unparsed": sum(not item.parsed for item in rated)} | asking.counts()
