"""Fixtures that several files of this folder ask for."""

import gc
import importlib
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
    """A tiny model's matrices are too small to share; on a busy machine two threads only wait for each other.

    Each training collects garbage, among the libraries' millions of objects, which takes longer than the training: they are left
    out of that.
    """
    import torch  # most files of this folder do without it

    for name in ("dpo", "search", "sft"):
        importlib.import_module(f"services.trainer.train.{name}")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student, the same each time."""
    return make_tiny_llama(tmp_path_factory.mktemp("model"), seed=1)
