"""The engine's log-probabilities with an adapter against the trainer's: what agrees, what is told, what is an error."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from services.orchestrator.method.report_warnings import adapter_warnings
from services.weak_model.worker import adapter_check
from services.weak_model.worker.student_client import EngineRefused, StudentClient
from shared.artifacts.archives import exported
from shared.artifacts.store import Artifacts
from shared.contracts.adapter_check import FILE, KEY, AdapterLogprobs, ScoredRow
from shared.contracts.errors import FatalError
from shared.contracts.steps import ModelRef
from tests.fakes.vllm import running_vllm

ROW = ScoredRow(ids=[5, 6, 7, 8], scored=[2, 3], base=[-4.0, -3.0], adapter=[-1.0, -0.5])
TRAINED = AdapterLogprobs(rows=[ROW, ROW])
REF = ModelRef(base="tiny", base_hash="0" * 64, adapter="a" * 64)
BASE = [-4.01, -2.99]


class Engine:
    """Answers with the base's log-probabilities and those that the adapter has there."""

    def __init__(self, adapted: Sequence[float], base: Sequence[float] = BASE):
        self.known = {REF.base: base, REF.engine_name: adapted}

    async def prompt_logprobs(self, model: str, prompts: Sequence[Sequence[int]]) -> list[list[float | None]]:
        return [[None, -9.0, *self.known[model]] for _ in prompts]


async def checked(engine: Engine, trained: AdapterLogprobs | str = TRAINED):
    return await adapter_check.compared(engine, trained, REF, "http://engine")


async def test_an_adapter_that_answers_as_in_training_agrees():
    check = await checked(Engine([-1.02, -0.49]))
    assert (check.state, check.tokens, check.trainer_change) == ("agrees", 4, 2.75)
    assert check.share == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("adapted", [BASE, [-3.9, -2.9]])
async def test_an_adapter_that_the_engine_leaves_out_is_an_error_that_names_all(adapted: list[float]):
    with pytest.raises(FatalError) as caught:
        await checked(Engine(adapted))
    assert caught.value.code == "adapter_ignored"
    for words in ("http://engine", "'tiny'", REF.engine_name, "2.75 nats", "distillation.adapter.method full"):
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Engine([-2.5, -1.7]), "1.35 nats each away from the trainer's (without the adapter by 0.01)"),
        (Engine([-1.0, -0.5], base=[-6.0, -5.0]), ""),
        (Engine([-3.0, -2.5], base=[-6.0, -5.0]), "also without the adapter, by 2.00"),
    ],
)
async def test_what_differs_beyond_the_tolerance_is_told(engine: Engine, words: str):
    check = await checked(engine)
    assert check.state == ("differs" if words or check.share else "agrees")
    assert words in check.reason


async def test_half_of_an_adapter_is_told_though_it_is_near():
    small = AdapterLogprobs(rows=[ROW.model_copy(update={"adapter": [-3.8, -2.8]})])
    assert "shows 30% of the change" in (await checked(Engine([-3.94, -2.94], base=[-4.0, -3.0]), small)).reason


async def test_an_adapter_that_learned_nothing_is_no_error():
    same = AdapterLogprobs(rows=[ROW.model_copy(update={"adapter": ROW.base})])
    assert (await checked(Engine(BASE), same)).state == "agrees"


async def test_what_cannot_be_compared_says_why(tmp_path: Path):
    """An adapter of before, and an engine that does not know the field (this one ignores it)."""
    old = tmp_path / "adapter"
    old.mkdir()
    (old / "adapter_config.json").write_text("{}")
    artifacts = Artifacts(tmp_path / "artifacts")
    digest = artifacts.put_folder(old)
    with running_vllm({"tiny", digest}) as engine:
        async with StudentClient(engine.url, "", 20, 5) as client:
            before = await adapter_check.check(client, artifacts, REF.model_copy(update={"adapter": digest}))
            assert await adapter_check.check(client, artifacts, REF.model_copy(update={"adapter": None})) == {}
            with pytest.raises(EngineRefused, match="prompt_logprobs"):
                await client.prompt_logprobs("tiny", [[1, 2]])
            unknown = await adapter_check.compared(client, TRAINED, REF, engine.url)
    assert before[KEY] == {
        "adapter": digest, "state": "unchecked", "tokens": 0,
        "reason": "it was trained before log-probabilities were kept beside adapters",
    }  # fmt: skip
    assert unknown.state == "unchecked"
    lines = adapter_warnings([before, before, {"n": 3}, {KEY: unknown.model_dump()}])
    assert len(lines) == 2
    assert lines[0].startswith("1 adapters were not compared between trainer and engine: it was trained before")


async def test_the_report_names_an_adapter_that_differs_once_and_counts_its_steps():
    figures = {KEY: (await checked(Engine([-2.5, -1.7]))).model_dump()}
    (line,) = adapter_warnings([figures, {}, figures])
    assert line.startswith(f"adapter {'a' * 12} in the engine: its log-probabilities of 4 learned tokens are 1.35 nats")
    assert "(seen by 2 steps)" in line


async def test_a_refusal_of_the_adapter_is_the_engines_own_error(tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / FILE).write_text(TRAINED.model_dump_json())
    artifacts = Artifacts(tmp_path / "artifacts")
    ref = REF.model_copy(update={"adapter": artifacts.put_folder(folder)})

    class Refusing(StudentClient):
        async def prompt_logprobs(self, model: str, prompts: Sequence[Sequence[int]]) -> list[list[float | None]]:
            if model == ref.adapter:
                raise EngineRefused(httpx.Response(404, text="does not exist"))
            return await Engine(BASE).prompt_logprobs("tiny", prompts)

    async with Refusing("http://engine", "", 1, 1) as client:
        with pytest.raises(FatalError) as caught:
            await adapter_check.check(client, artifacts, ref)
    assert caught.value.code == "adapter_missing"


@pytest.mark.parametrize("broken", [REF.base, REF.engine_name])
async def test_an_engine_that_computes_no_numbers_is_an_error(broken: str):
    class Broken(Engine):
        async def prompt_logprobs(self, model: str, prompts: Sequence[Sequence[int]]) -> list[list[float | None]]:
            if model == broken:
                raise EngineRefused(httpx.Response(400, text="Out of range float values are not JSON compliant"))
            return await super().prompt_logprobs(model, prompts)

    with pytest.raises(FatalError, match="METEOR_ENGINE_DTYPE") as caught:
        await checked(Broken([-1.0, -0.5]))
    assert caught.value.code == "engine_not_finite"


def test_training_rows_leave_in_no_export(tmp_path: Path):
    for name in ("adapter_model.safetensors", FILE):
        (tmp_path / name).write_text("")
    assert [path.name for path in exported(tmp_path)] == ["adapter_model.safetensors"]
