"""The API with a gateway and a teacher behind it, as processes; no model and no worker runs."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.contract.conftest import BASE, TOKEN, RunningApi, running_api
from tests.fakes.gateway import PATIENT, running_gateway
from tests.fakes.teacher import start_teacher
from tests.fakes.vllm import running_vllm

ADAPTERS = [f"{number:02d}" * 32 for number in range(1, 9)]  # as the samples name them


@contextmanager
def running_system(data: Path, redis: str, **changes: str) -> Generator[RunningApi]:
    """changes: to the environment of the API."""
    with ExitStack() as stack:
        engine = stack.enter_context(running_vllm({BASE, *ADAPTERS}))
        teacher = stack.enter_context(start_teacher())
        own = {"METEOR_INTERNAL_TOKEN": TOKEN, "METEOR_JUDGE_BASE_URL": ""}
        gateway = stack.enter_context(running_gateway(teacher, data, **PATIENT, **own))
        parts = {"METEOR_API_ENGINE_URL": engine.url, "METEOR_API_GATEWAY_URL": gateway.url, "REDIS_URL": redis}
        yield stack.enter_context(running_api(data, **parts, **changes))
