"""Whether an engine here serves a model with an adapter as it was trained, found by starting one. Needs vLLM, about half a minute and
1 GB for a toy model.

    python -m services.weak_model.trial MODEL DATA ADAPTER

MODEL: a folder. DATA: a data folder of the trial's own, with the adapter in artifacts/ and serving/. ADAPTER: its content hash. Prints
an EngineTrial as JSON.
"""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

from services.weak_model.engine.health import is_healthy
from services.weak_model.engine.vllm import OURS, explain
from services.weak_model.worker import adapter_check
from services.weak_model.worker.student_client import StudentClient
from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import EngineTrial
from shared.contracts.errors import MeteorError
from shared.contracts.steps import ModelRef
from shared.platform.guarded_process import GuardedProcess
from shared.platform.settings import PlatformSettings
from shared.platform.terminal import write

NAME = "tried"
START_S, CALL_S, LOOK_S = 300.0, 60.0, 0.5
SMALL = {"KV_CACHE_GB": "0.1", "MAX_MODEL_LEN": "256", "MAX_NUM_SEQS": "4", "MAX_LORA_RANK": "8", "ATTEMPTS": "1"}


def tried(model: Path, data: Path, adapter: str) -> EngineTrial:
    token, port, log = secrets.token_hex(16), _free_port(), data / "engine.log"
    url = f"http://127.0.0.1:{port}"
    settings = SMALL | {"MODEL": str(model), "SERVED_NAME": NAME, "PORT": str(port)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {f"METEOR_ENGINE_{name}": value for name, value in settings.items()}
    environment |= {"METEOR_DATA": str(data), "METEOR_INTERNAL_TOKEN": token}
    with log.open("ab") as file:
        argv = [sys.executable, "-m", "services.weak_model", "engine"]
        engine = GuardedProcess(argv, environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        if not _started(engine, url):
            return EngineTrial(ok=False, code="engine_not_started", reason=_why(engine, log))
        asyncio.run(_compare(url, token, data, adapter))
    except MeteorError as error:
        died = error.code == "engine_unavailable"
        return EngineTrial(ok=False, code=error.code, reason=_why(engine, log) if died else error.message)
    finally:
        engine.end(within_s=10)
    return EngineTrial(ok=True)


def _started(engine: GuardedProcess, url: str) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and engine.exit_code is None:
        if is_healthy(url):
            return True
        time.sleep(LOOK_S)
    return False


async def _compare(url: str, token: str, data: Path, adapter: str) -> None:
    """Raises FatalError where the engine ignores the adapter or computes no numbers, TransientError where it dies of it."""
    ref = ModelRef(base=NAME, base_hash="0" * 64, adapter=adapter)
    async with StudentClient(url, token, CALL_S, unavailable_s=5) as client:
        await adapter_check.check(client, Artifacts(PlatformSettings(data=data).artifacts), ref)


def _why(engine: GuardedProcess, log: Path) -> str:
    """In a few lines of the engine's log."""
    return explain(engine.exit_code, log.read_text("utf-8", "replace").splitlines()[-400:])[:600]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    write(tried(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).model_dump_json() + "\n")
