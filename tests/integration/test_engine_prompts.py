"""A real vLLM with a base whose chat template lacks everything at once: it renders what the trainer renders, and stops where the
template ends a turn. One start of vLLM."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.weak_model.worker.prompts import answer_messages
from shared.artifacts.chat_templates import read_prompts
from shared.contracts.rows import Asked, StudentPrompt
from tests.fakes.chat_templates import CASES, QUESTION, SPECIAL_TOKENS, write_case
from tests.fakes.ports import wait_until
from tests.fakes.tiny_model import make_tiny_llama
from tests.integration.test_engine import START_S, TOKEN, EngineProcess

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

CASE = "everything at once"
MESSAGES = answer_messages(StudentPrompt(id="a", question=QUESTION))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from services.trainer.train import data
    from services.trainer.train.model import load_tokenizer

    folder = make_tiny_llama(tmp_path_factory.mktemp("engine") / "tiny")
    write_case(folder, CASES[CASE])
    profile = read_prompts(folder, steps_only=True)
    assert profile is not None
    ids = data.prompt_ids(load_tokenizer(folder, profile), Asked(id="a", question=QUESTION))
    (folder.parent / "ids.json").write_text(json.dumps(ids))
    return folder


@pytest.fixture(scope="module")
def http(base: Path) -> Iterator[httpx.Client]:
    engine = EngineProcess(base.parent, base)
    engine.start()
    try:
        with httpx.Client(base_url=engine.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=120) as client:
            wait_until(lambda: engine.said("engine ready") > 0, START_S, "the engine")
            yield client
    finally:
        engine.running.terminate()
        engine.running.wait(30)


def chat(http: httpx.Client, messages: list[Any], **fields: Any) -> Any:
    answer = http.post("/v1/chat/completions", json={"model": "tiny", "messages": messages, "max_tokens": 8} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_engine_renders_what_was_trained(http: httpx.Client, base: Path):
    trained = json.loads((base.parent / "ids.json").read_text())
    rendered = http.post("/tokenize", json={"model": "tiny", "messages": MESSAGES}).json()
    assert rendered["tokens"] == trained
    assert http.post("/detokenize", json={"model": "tiny", "tokens": trained}).json()["prompt"] == CASES[CASE].prompt
    assert chat(http, MESSAGES, return_token_ids=True)["prompt_token_ids"] == trained


def test_turns_of_one_role_are_taken(http: httpx.Client):
    chat(http, [*MESSAGES, {"role": "user", "content": "Now?"}, {"role": "user", "content": "And now?"}])


def test_an_answer_ends_with_the_templates_turn(http: httpx.Client):
    ended = chat(http, MESSAGES, logit_bias={str(SPECIAL_TOKENS.index("<turn_end>")): 100})
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert ended["usage"]["completion_tokens"] == 1
