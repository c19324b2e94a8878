"""An engine process on a CUDA device: it sleeps while a training has the device, and answers as before when it wakes."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from services.trainer.device_loan import borrowed
from services.trainer.publishing import publish
from services.trainer.settings import TrainerSettings
from shared.artifacts.store import Artifacts
from shared.contracts.device import DeviceSharing
from shared.platform.settings import PlatformSettings
from tests.fakes.ports import wait_until
from tests.integration.test_engine import ROWS, START_S, TOKEN, EngineProcess, answers, params

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder = tmp_path_factory.mktemp("engine")
    code = (
        "from tests.fakes.tiny_adapter import make_tiny_adapter; from tests.fakes.tiny_model import make_tiny_llama; "
        f"make_tiny_adapter(make_tiny_llama({str(folder / 'tiny')!r}), {str(folder / 'adapter')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    engine = EngineProcess(folder, folder / "tiny")
    engine.start()
    try:
        wait_until(lambda: engine.said("engine ready"), START_S, "vLLM")
        yield engine
    finally:
        engine.running.terminate()
        engine.running.wait(20)


async def test_it_frees_the_device_for_a_training_and_answers_as_before(engine: EngineProcess, tmp_path: Path):
    adapter = publish(
        engine.data / "adapter", Artifacts(engine.data / "artifacts"), engine.data / "serving", str(engine.model)
    )
    before = [await answers(engine, ROWS, given) for given in (params(), params(adapter=adapter))]
    assert engine.sleep_mode() == {"available": True, "reason": None}
    family, awake = engine.family(), torch.cuda.mem_get_info()[0]
    settings = TrainerSettings(engine_control_url=f"http://127.0.0.1:{engine.control_port}")
    platform = PlatformSettings(data=tmp_path, device_sharing=DeviceSharing.TIME, internal_token=TOKEN)
    async with borrowed("step 1", platform, settings, lambda _: None):
        await asyncio.to_thread(wait_until, lambda: engine.said("engine sleeps"), 60, "the sleep")
        asleep, whole = torch.cuda.mem_get_info()
        assert asleep - awake > 0.5 * whole  # it held nine tenths
    wait_until(lambda: engine.said("engine awake"), 120, "the waking")
    assert {process.pid for process in family} <= {process.pid for process in engine.family()}
    assert [await answers(engine, ROWS, given) for given in (params(), params(adapter=adapter))] == before
    assert (engine.probes()["different"], engine.probes()["unanswered"]) == (0, 0)
