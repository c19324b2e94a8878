"""Our LoRA products against vLLM's own, on random batches with one and with several adapters."""

import pytest

torch = pytest.importorskip("torch")

from services.weak_model import vllm_plugin as ours  # noqa: E402

SLOTS, RANK, WIDTH, OUT = 3, 4, 8, 10


@pytest.fixture(scope="module")
def theirs():
    """vLLM's file alone, without importing vLLM."""
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "lora/ops/torch_ops/lora_ops.py"
    module_spec = importlib.util.spec_from_file_location("lora_ops", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("indices", [[1, 1, 1, 1, 1], [0, 2, 1, 0, 2]])
def test_shrink_and_expand_are_vllms(theirs, draw, indices):
    which = torch.tensor(indices)
    x, a, b = draw(5, WIDTH), draw(SLOTS, 1, RANK, WIDTH), draw(SLOTS, 1, OUT, RANK)
    low, high = [torch.zeros(5, RANK) for _ in range(2)], [draw(5, OUT).clone()] * 2
    high = [high[0].clone(), high[0].clone()]
    for module, shrunk, grown in zip((theirs, ours), low, high, strict=True):
        module.bgmv_shrink(x, a, shrunk, which, 2.0)
        module.bgmv_expand(shrunk, b, grown, which, True)
    torch.testing.assert_close(low[0], low[1])
    torch.testing.assert_close(high[0], high[1])


@pytest.mark.parametrize("add", [True, False])
def test_slices_are_vllms(theirs, draw, add):
    lengths, which = torch.tensor([2, 3]), torch.tensor([2, 0])
    x, b, start = draw(5, RANK), draw(SLOTS, 1, 4, RANK), draw(5, OUT)
    results = [start.clone(), start.clone()]
    for module, y in zip((theirs, ours), results, strict=True):
        module.sgmv_expand_slice(x, b, y, None, lengths, which, 2, 3, 5, 3, 4, add)
    torch.testing.assert_close(results[0], results[1])


def test_tokens_without_an_adapter_get_nothing(draw):
    which = torch.tensor([-1, 1, -1])
    x, a, b = draw(3, WIDTH), draw(SLOTS, 1, RANK, WIDTH), draw(SLOTS, 1, OUT, RANK)
    low, high = draw(3, RANK), torch.zeros(3, OUT)
    ours.bgmv_shrink(x, a, low, which)
    ours.bgmv_expand(low, b, high, which)
    assert high[0].abs().sum() == high[2].abs().sum() == 0
    assert high[1].abs().sum() > 0
