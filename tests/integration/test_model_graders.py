"""Graders that ask a strong model, through a real gateway, and from a client of the API to the ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import TypeAdapter

from services.judge.grade import grade
from shared.contracts.errors import UserError
from shared.contracts.grader_kinds import VerifyingKind
from shared.contracts.rows import JudgeInput
from shared.grading.graders import Graders
from tests.contract.conftest import KEY, running_api
from tests.fakes.gateway import TOKEN, Gateway, running_gateway
from tests.fakes.start import start_teacher

TEXT = [{"role": "user", "content": "{{item.question}} {{item.reference}} {{sample.output_text}}"}]
SCORE: dict[str, Any] = {"type": "score_model", "name": "s", "model": "fake-large", "range": [0, 100], "input": TEXT}
LABEL: dict[str, Any] = {
    "type": "label_model", "name": "l", "model": "default", "labels": ["good", "bad"], "passing_labels": ["good"], "input": TEXT,
}  # fmt: skip
BOTH = {"type": "multi", "name": "b", "graders": {"s": SCORE, "l": LABEL}, "calculate_output": "s / 100 * l"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with start_teacher() as teacher, running_gateway(teacher, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def row(name: str, **changes: Any) -> JudgeInput:
    return JudgeInput(id=name, question="How?", answer=f"answer {name}", reference="so", **changes)


async def graded(gateway: Gateway, rows: list[JudgeInput], *given: dict[str, Any]):
    specs = [TypeAdapter(VerifyingKind).validate_python(one) for one in given]
    async with gateway.client() as client:
        with Graders(specs, gateway=client) as graders:
            return await grade(graders, rows, lambda done, total: None)


async def test_answers_are_graded_on_the_ledger_and_once(gateway: Gateway):
    rows = [row(str(number)) for number in range(12)]
    before = len(gateway.rows())
    grades, counts = await graded(gateway, rows, SCORE, LABEL, BOTH)
    labels = [one.scores["label_model"] for one in grades]
    assert set(labels) == {0.0, 1.0}
    assert len({one.scores["score_model"] for one in grades}) > 2
    for one in grades:
        assert 0 <= one.scores["score_model"] <= 1
        assert one.scores["multi"] == pytest.approx(one.scores["score_model"] * one.scores["label_model"])
    assert (
        counts["calls"] - counts["cached_calls"] == len(gateway.teacher.log()) == 24
    )  # the formula asks what was asked
    assert len(gateway.rows()) - before == counts["calls"]
    assert counts["input_tokens"] > 0
    _, again = await graded(gateway, rows, SCORE)
    assert (again["calls"], again["cached_calls"]) == (12, 12)


async def test_a_row_without_what_a_template_names_has_no_score(gateway: Gateway):
    lacking = LABEL | {"input": [{"role": "user", "content": "{{item.tone}}"}]}
    grades, counts = await graded(gateway, [row("a"), row("b", item={"tone": "kind"})], lacking)
    assert ["label_model" in one.scores for one in grades] == [False, True]
    assert counts["ungradable"] == 1


async def test_a_model_that_is_not_there_is_the_users_error(gateway: Gateway):
    with pytest.raises(UserError, match="no provider or model named 'nobody'"):
        await graded(gateway, [row("a")], LABEL | {"model": "nobody"})


def test_a_client_tries_them(gateway: Gateway, tmp_path: Path):
    with (
        running_api(tmp_path, METEOR_API_GATEWAY_URL=gateway.url, METEOR_INTERNAL_TOKEN=TOKEN) as api,
        openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        graders: Any = client.fine_tuning.alpha.graders
        item = {"question": "How?", "reference": "so"}
        ran = graders.run(grader=SCORE, model_sample="tried", item=item)
        assert 0 <= ran.reward <= 100  # in its own range
        assert ran.metadata.sampled_model_name == "fake-large"
        used = ran.model_grader_token_usage_per_model["fake-large"]
        assert used["total_tokens"] == ran.metadata.token_usage > 0
        both = graders.run(grader=BOTH, model_sample="tried", item=item)
        assert both.sub_rewards["s"] == ran.reward
        assert both.reward == pytest.approx(ran.reward / 100 * both.sub_rewards["l"])
        assert gateway.rows()[-1].phase == "check"
        lacking = graders.run(grader=SCORE, model_sample="tried", item={})
        assert lacking.metadata.errors.invalid_variable_error
        with pytest.raises(openai.BadRequestError, match="known: default"):
            graders.validate(grader=SCORE | {"model": "nobody"})
        gateway.teacher.fault("500", times=100)
        try:
            failed = graders.run(grader=SCORE, model_sample="another", item=item)
        finally:
            gateway.teacher.heal()
        assert failed.reward == 0
        assert failed.metadata.errors.api_model_grader_server_error
