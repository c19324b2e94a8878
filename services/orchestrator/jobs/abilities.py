"""Whether a job's student can do what the job needs, before anything is paid. Posting a job checks the same, where it is known by then."""

import asyncio

from services.orchestrator.method.run import DistillationRun
from services.orchestrator.settings import OrchestratorSettings
from shared.artifacts.bases import Bases
from shared.artifacts.capabilities import published
from shared.contracts.capabilities import Capabilities
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import refuse
from shared.contracts.steps import ProbeParams, StepKind
from shared.plan.student_checks import problems

KEY = "prepare/probe"


async def refuse_unfit(run: DistillationRun) -> None:
    """Has the base tried by the trainer where nobody has yet. Raises UserError with what a job posted now would be refused with."""
    ref = run.context.base
    base = Bases().find(ref.base)
    if base is None or base.folder is None:  # a server of the user's own serves it
        return
    capabilities = await asyncio.to_thread(published, run.data, ref.base)
    if capabilities is None:
        await run.emit(
            f"the student {ref.base!r} was never tried here; the trainer tries what it can do (up to a minute)"
        )
        params = ProbeParams(base=ref.base, base_hash=ref.base_hash)
        capabilities = Capabilities.model_validate((await run.step(KEY, StepKind.PROBE, params, [])).metrics)
    request = JobRequest.model_validate(run.job.request)
    refuse(problems(capabilities, request, OrchestratorSettings().max_rank))
