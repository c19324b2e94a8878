"""Fixtures that several files of this folder ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tiny_model import make_tiny_llama


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A tiny model's matrices are too small to share; on a busy machine two threads only wait for each other."""
    import torch  # most files of this folder do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student, the same each time."""
    return make_tiny_llama(tmp_path_factory.mktemp("model"), seed=1)
