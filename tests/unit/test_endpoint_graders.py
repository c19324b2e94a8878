"""Grading by the user's own service, a real HTTP server here: right, wrong, malformed, hostile and slow answers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from services.judge.grade import grade
from shared.contracts.errors import MeteorError, TransientError, UserError
from shared.contracts.grader_kinds import EndpointGrader, VerifyingKind
from shared.contracts.rows import JudgeInput
from shared.grading import endpoint
from shared.grading.attempt import Attempt
from shared.grading.endpoint import EndpointScores
from shared.grading.graders import Graders
from shared.platform.public_addresses import networks_of, unreadable
from tests.fakes.grader_service import Service, running_service

HERE = networks_of("127.0.0.1/32")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE_S", 0.01)
    with running_service() as made:
        yield made


def spec(url: str, **changes: Any) -> EndpointGrader:
    made = TypeAdapter(VerifyingKind).validate_python({"type": "endpoint", "url": url} | changes)
    assert isinstance(made, EndpointGrader)
    return made


def scores(service: Service, *texts: str, kept: Path | None = None, **changes: Any) -> list[tuple[float, str]]:
    grader = EndpointScores(spec(service.url, **changes), HERE, kept)
    attempts = [Attempt.of(text, "ref", "Why?", {"tone": "kind"}) for text in texts]
    return [(one.score, one.why) for one in asyncio.run(grader.score_all(attempts))]


def test_answers_are_sent_in_batches_and_equal_ones_once(service: Service):
    assert scores(service, "aaaa", "ab", "", "ab", "b", batch_size=2) == [
        (1, ""), (0.5, ""), (0, "reference"), (0.5, ""), (0, ""),
    ]  # fmt: skip
    assert sorted(len(body["attempts"]) for body in service.asked) == [2, 2]
    first = next(body["attempts"] for body in service.asked if body["attempts"][0]["sample"]["output_text"] == "aaaa")
    assert first[0]["item"] == {"question": "Why?", "reference": "ref", "tone": "kind"}


def test_what_was_answered_is_kept_for_the_next_attempt(service: Service, tmp_path: Path):
    kept = tmp_path / "scores.jsonl"
    scores(service, "a", "b", kept=kept)
    with kept.open("a") as file:
        file.write('\n["cut')
    assert scores(service, "a", "b", "ab", kept=kept) == [(1, ""), (0, ""), (0.5, "")]
    assert [len(body["attempts"]) for body in service.asked] == [2, 1]


def test_what_may_pass_is_tried_again(service: Service):
    service.answers = [(503, b""), (429, b"slow down")]
    assert scores(service, "a") == [(1, "")]
    assert len(service.asked) == 3
    service.answers = [(500, b"")] * 3
    with pytest.raises(TransientError, match="it answered 500"):
        scores(service, "a")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (400, b"no", "it answered 400"),
        (404, b"", "it answered 404"),
        (302, b"", "it answered 302"),
        (200, b"<html>", "no JSON object with `scores`"),
        (200, b"[1]", "no JSON object with `scores`"),
        (200, b'{"scores": [1, 1]}', "must be a list of 1"),
        (200, b'{"scores": {"0": 1}}', "must be a list of 1"),
        (200, b'{"scores": [1.5]}', r"scores\[0\] is 1.5"),
        (200, b'{"scores": [NaN]}', r"scores\[0\] is nan"),
        (200, b'{"scores": [true]}', r"scores\[0\] is True"),
        (200, b'{"scores": ["1"]}', r"scores\[0\] is 1"),
        (200, b"[" * 9_000, "no JSON object"),
        (200, b" " * 1_000_000, "more than .* bytes"),
    ],
)
def test_other_answers_end_the_step_at_once(service: Service, status: int, body: bytes, says: str):
    service.answers, service.headers = [(status, body)], {"location": "http://127.0.0.1:1/"}
    with pytest.raises(UserError, match=says):
        scores(service, "a")
    assert len(service.asked) == 1


def test_a_slow_one_is_not_waited_for(service: Service):
    service.slow_s = 1.0
    with pytest.raises(TransientError, match="no answer within"):
        scores(service, "a", timeout_s=0.1)
    assert len(service.asked) == 3


def test_addresses_that_are_not_public_are_not_reached(service: Service):
    for url in (service.url, service.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(MeteorError, match="METEOR_GRADER_ALLOW"):
            asyncio.run(EndpointScores(spec(url)).score_all([Attempt.of("a", "")]))
    assert not service.asked


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/",
        "http://user:secret@x/",
        "http:///x",
        "x.example",
        "http://x/ y",
        "http://x/#a",
    ],
)
def test_other_addresses_are_refused(url: str):
    with pytest.raises(ValidationError):
        spec(url)


@pytest.mark.parametrize(
    "url",
    ["https://2(\U0006e85f", "http://x:99999/", "http://x:0/", "http://[]/", "http://[::1/", "http://b\u00fccher.example/", "http://x/\u00fc"],
)  # fmt: skip
def test_addresses_that_no_client_can_read(url: str):
    assert unreadable(url)
    assert not unreadable("https://[2606:4700::1111]:8443/grade?by=%C3%BC")


async def test_in_a_formula_and_in_a_step(service: Service):
    given = {"type": "endpoint", "url": service.url}
    multi = {"type": "multi", "graders": {"own": given, "same": "string_check"}, "calculate_output": "(own + same) / 2"}
    made = TypeAdapter[Any](VerifyingKind).validate_python(multi)
    rows = [JudgeInput(id=text, question="?", answer=text, reference="aa") for text in ("aa", "ab", "b")]
    with Graders([made], networks=HERE) as graders:
        grades, counts = await grade(graders, rows, lambda done, total: None)
    assert [one.scores["multi"] for one in grades] == [1, 0.25, 0]
    assert counts == {"n": 3, "without_reference": 0}
    assert len(service.asked) == 1
