"""Fixtures that several files of this folder ask for."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.platform.loading import loading
from tests.fakes.gateway import PATIENT, Gateway, running_gateway
from tests.fakes.providers.server import KEY, providers_file, simulated_providers
from tests.fakes.start import FakeServer
from tests.fakes.tiny_model import make_tiny_llama


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A tiny model's matrices are too small to share; on a busy machine two threads only wait for each other.

    Each training collects garbage, which takes longer than the training where the libraries' objects are among it.
    """
    with loading():
        import torch  # most files of this folder do without it

        for name in ("dpo", "search", "sft"):
            importlib.import_module(f"services.trainer.train.{name}")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student, the same each time."""
    return make_tiny_llama(tmp_path_factory.mktemp("model"), seed=1)


@pytest.fixture(scope="session")
def simulated_servers() -> Iterator[dict[str, FakeServer]]:
    """All simulated providers (tests/fakes/providers)."""
    with simulated_providers() as servers:
        yield servers


@pytest.fixture(scope="session")
def simulated_gateway(
    simulated_servers: dict[str, FakeServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before all of them, for whole jobs."""
    folder = tmp_path_factory.mktemp("simulated")
    path = folder / "providers.json"
    azure = {"query": {"api-version": "1"}, "api_key_header": "api-key"}
    path.write_text(json.dumps(providers_file(simulated_servers, azure=azure)))
    env = {"METEOR_PROVIDERS_FILE": str(path), "SIMULATED_KEY": KEY} | PATIENT
    with running_gateway(simulated_servers["plain"], folder, **env) as gateway:
        yield gateway
