"""A provider asked as it is, for evals: nothing of ours in front of the messages, its answer as it comes."""

from shared.contracts.errors import RowRefused
from shared.contracts.eval_results import CompleteParams
from shared.contracts.rows import CompletionUsage, StudentCompletion, StudentPrompt, student_messages
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress, run_rows


async def complete(
    gateway: GatewayClient, params: CompleteParams, rows: list[StudentPrompt], progress: OnProgress
) -> tuple[list[StudentCompletion], dict[str, int]]:
    """Answers in the order of the rows, and counts. A row that the provider always refuses has an empty one, content_filter or too_long.
    Raises what GatewayClient.chat raises."""

    async def ask(row: StudentPrompt) -> StudentCompletion:
        try:
            reply = await gateway.chat(
                model=params.provider,
                messages=student_messages(row),
                example_id=row.id,
                **params.sampling.model_dump(),
            )
        except RowRefused as refusal:
            reason = "content_filter" if refusal.outcome == "refused" else refusal.outcome
            return StudentCompletion(id=row.id, answer="", finish_reason=reason)
        used = CompletionUsage(
            prompt_tokens=reply.input_tokens, completion_tokens=reply.output_tokens, cached=reply.cached
        )
        return StudentCompletion(id=row.id, answer=reply.text, finish_reason=reply.finish_reason, usage=used)

    answers = await run_rows(ask, rows, progress)
    return answers, {"n": len(answers), "cut_off": sum(one.finish_reason == "length" for one in answers)}
