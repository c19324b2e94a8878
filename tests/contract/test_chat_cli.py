"""`meteor chat` and `meteor canary` against the real API and a fake engine."""

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from services.meteor.main import cli
from shared.contracts.errors import UserError
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, KEY, RunningApi, publish_version
from tests.fakes.vllm import FakeVllm

ALIAS = "talker"
Meteor = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def talker(api: RunningApi) -> None:
    """The newest alias, with two versions of the same adapter."""
    served, _ = (publish_version(api, ALIAS, ADAPTER) for _ in range(2))
    api.stores.catalog.serve(DEFAULT_PROJECT, served)


@pytest.fixture
def meteor(api: RunningApi) -> Meteor:
    def run(*argv: str, typed: str | None = None) -> Result:
        there = {"METEOR_API_URL": api.url, "METEOR_API_KEY": KEY, "COLUMNS": "100"}
        return CliRunner().invoke(cli, list(argv), env=there, catch_exceptions=False, input=typed)

    return run


def test_one_question_streams_to_the_newest_alias(meteor: Meteor, engine: FakeVllm):
    said = meteor("chat", "-m", "[b]hi", "--max-tokens", "7", "--temperature", "0", "--system", "Be brief.")
    assert (said.exit_code, said.output) == (0, "Hello é\n")
    asked = engine.last
    assert (asked["model"], asked["stream"], asked["max_tokens"], asked["temperature"]) == (ADAPTER, True, 7, 0)
    assert [message["content"] for message in asked["messages"]] == ["Be brief.", "[b]hi"]


def test_a_conversation_remembers_and_outlives_an_error(meteor: Meteor, engine: FakeVllm):
    said = meteor("chat", f"{ALIAS}@1", typed="first\n\nfail\nsecond\n")
    assert said.exit_code == 0
    assert said.output.count("Hello é") == 2
    assert f"{ALIAS}@1: the model is out of memory" in said.output
    contents = [message["content"] for message in engine.last["messages"]]
    assert contents[1:] == ["first", "Hello é", "second"], "what failed is not in it"


def test_side_by_side_with_the_base(meteor: Meteor, engine: FakeVllm):
    place = len(engine.asked)
    said = meteor("chat", ALIAS, "-m", "hi", "--compare", "base")
    head, _, *answers = said.output.splitlines()
    assert head.split() == [ALIAS, "┃", BASE]
    assert "".join(answers).count("Hello é") == 2
    assert {body["model"] for body, _ in engine.asked[place:]} == {ADAPTER, BASE}


def test_json(meteor: Meteor):
    one = json.loads(meteor("chat", ALIAS, "-m", "-", "--json", typed="think\n").output)
    assert (one["model"], one["content"], one["reasoning_content"]) == (ALIAS, "42", "It is twice 21.")
    assert one["usage"]["total_tokens"] == 5
    two = json.loads(meteor("chat", ALIAS, "-m", "hi", "--compare", f"{ALIAS}@2", "--json").output)
    assert [answer["model"] for answer in two] == [ALIAS, f"{ALIAS}@2"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nobody", "-m", "hi"], "no model 'nobody'"),
        ([ALIAS, "-m", "hi", "--compare", "nobody"], "no model 'nobody'"),
        ([BASE, "-m", "hi", "--compare", "base"], "is a base itself"),
        ([ALIAS, "-m", "fail"], "talker: the model is out of memory"),
        ([ALIAS, "-m", "drop"], "talker: the engine cannot be reached"),
        ([ALIAS, "--json"], "-m TEXT"),
    ],
)
def test_errors_are_one_clear_line(meteor: Meteor, argv: list[str], words: str):
    with pytest.raises(UserError, match=words):
        meteor("chat", *argv)


def test_canary(meteor: Meteor):
    assert meteor("canary", "set", ALIAS, "2", "--percent", "12.5").output.strip() == (
        f"{ALIAS}@1 is served; {ALIAS}@2 answers 12.5 % of conversations"
    )
    meteor("canary", "set", ALIAS, "2", "--shadow")
    assert "10 % of conversations are copied" in meteor("canary", "show", ALIAS).output
    assert json.loads(meteor("canary", "show", ALIAS, "--json").output)["shadow"] is True
    assert "no canary any more" in meteor("canary", "end", ALIAS).output
    with pytest.raises(UserError, match="has no canary"):
        meteor("canary", "end", ALIAS)
