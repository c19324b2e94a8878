"""The worker's plain functions and its handlers against a real HTTP server on loopback."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.orchestrator.method.report_warnings import thought_warnings
from services.weak_model.worker import completions
from services.weak_model.worker.completions import row_seed
from services.weak_model.worker.student_client import StudentClient
from shared.contracts.errors import FatalError, TransientError
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.rows import TOO_LONG, StudentPrompt
from shared.contracts.steps import ModelRef, Sampling, StudentParams
from tests.fakes.ports import free_port, wait_until

HASH = "0" * 64
LIMIT = "This model's maximum context length is 64 tokens. However, your prompt contains 99 input tokens."


class Server:
    """Says what its question asks for; the first questions take longest, so answers come in reverse order."""

    def __init__(self):
        self.asked: list[dict] = []
        self.ended_early = 0
        self.down = 0  # so many requests are answered 503
        self.most_choices = 64

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions", response_model=None)
        async def chat(request: Request):
            body = await request.json()
            self.asked.append(body)
            if self.down:
                self.down -= 1
                return JSONResponse({"error": {"message": "starting", "type": "x", "code": 503}}, 503)
            if body["model"] == HASH:
                return JSONResponse({"error": {"message": "does not exist", "type": "NotFoundError", "code": 404}}, 404)
            return await self.reply(request, body, body["messages"][-1]["content"])

        return app

    async def reply(self, request: Request, body: dict, text: str):
        finish, reply = "stop", f"reply {len(self.asked)}"
        if "overflow" in text:
            return JSONResponse({"error": {"message": LIMIT, "type": "BadRequestError", "code": 400}}, 400)
        if "bad" in text:
            return JSONResponse({"error": {"message": "top_p is odd", "type": "BadRequestError", "code": 400}}, 400)
        if "for ever" in text:
            while (await request.receive())["type"] != "http.disconnect":
                continue
            self.ended_early += 1
        if "slow" in text:
            await asyncio.sleep(0.3)
            reply = "slow one"
        if "marked" in text:
            reply = "It is twice 21.\nAnswer: 42"
        if "think" in text:
            reply = "<think>Twice 21, so" if "cut" in text else "<think>Twice 21.</think>\n\nIt is so.\nAnswer: 42"
        if "cut" in text:
            finish = "length"
        several = min(body.get("n", 1), self.most_choices)
        return {
            "id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [
                {"index": n, "message": {"role": "assistant", "content": f"{reply}{n or ''}"}, "finish_reason": finish}
                for n in range(several)
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        }  # fmt: skip


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    state, port = Server(), free_port()
    run = uvicorn.Server(uvicorn.Config(state.app(), host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=run.run, daemon=True)
    thread.start()
    wait_until(lambda: run.started, 60, "the server")
    yield state, f"http://127.0.0.1:{port}"
    run.should_exit = True
    thread.join(10)


def params(adapter: str | None = None, **sampling) -> StudentParams:
    model = ModelRef(base="student", base_hash="1" * 64, adapter=adapter)
    return StudentParams(model=model, domain="arithmetic", sampling=Sampling(**sampling))


def rows(*questions: str) -> list[StudentPrompt]:
    return [StudentPrompt(id=f"q{number}", question=question) for number, question in enumerate(questions)]


async def call(
    work, url: str, asked: list[StudentPrompt], given: StudentParams | None = None, patience_s: float = 5, tell=None
):
    async with StudentClient(url, "token", 20, patience_s) as client:
        return await work(client, given or params(), asked, tell or (lambda *_, **__: None))


async def test_rows_come_back_in_the_requests_order_with_their_figures(server):
    told = []
    replies, metrics = await call(
        completions.answer,
        server[1],
        rows("slow", "quick", "cut"),
        tell=lambda *at, **figures: told.append((at, figures)),
    )
    assert [row.id for row in replies] == ["q0", "q1", "q2"]
    assert replies[0].answer == "slow one"
    assert [row.finish_reason for row in replies] == ["stop", "stop", "length"]
    assert [at for at, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[-1][1] == {"tokens": 6}
    assert metrics | {"seconds": 0} == {
        "n": 3, "tokens": 6, "prompt_tokens": 15, "seconds": 0, "cut_off": 1, "too_long": 0, "marker_missing": 0,
    }  # fmt: skip
    assert metrics["seconds"] >= 0.3


async def test_all_rows_are_sent_at_once(server):
    _, metrics = await call(completions.answer, server[1], rows(*["slow"] * 20))
    assert metrics["seconds"] < 20 * 0.3 / 2


async def test_decoding_and_seed_reach_the_engine_and_a_row_keeps_its_seed_in_any_company(server):
    given = params(temperature=0.7, top_p=0.9, max_tokens=11, seed=3)
    await call(completions.answer, server[1], rows("a", "b"), given)
    await call(completions.answer, server[1], list(reversed(rows("a", "b"))), given)
    seeds = {(body["messages"][-1]["content"], body["seed"]) for body in server[0].asked}
    assert seeds == {("a", row_seed(3, "q0")), ("b", row_seed(3, "q1"))}
    body = server[0].asked[0]
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == ("student", 0.7, 0.9, 11)


async def test_several_samples_come_in_one_request(server):
    given = params(temperature=0.9, seed=3).model_copy(update={"n": 4})
    drawn, metrics = await call(completions.sample, server[1], rows("marked", "cut", "overflow"), given)
    assert sorted((body["n"], body["seed"]) for body in server[0].asked) == sorted(
        (4, row_seed(3, row.id)) for row in rows("marked", "cut", "overflow")
    )
    marked, cut, overflow = (row.completions for row in drawn)
    assert [c.answer for c in marked] == ["42", "421", "422", "423"]
    assert marked[0].rationale == "It is twice 21."
    assert [c.finish_reason for c in cut] == ["length"] * 4
    assert [c.finish_reason for c in overflow] == [TOO_LONG]
    assert (metrics["n"], metrics["cut_off"], metrics["too_long"], metrics["tokens"]) == (9, 4, 1, 4)


async def test_an_engine_that_gives_fewer_samples_is_asked_again_with_other_seeds(server):
    server[0].most_choices = 2
    given = params(temperature=0.9).model_copy(update={"n": 5})
    ((row,), _) = await call(completions.sample, server[1], rows("a"), given)
    assert len(row.completions) == 5
    first = row_seed(0, "q0")
    assert [(body.get("n", 1), body["seed"]) for body in server[0].asked] == [
        (5, first),
        (3, first + 2),
        (1, first + 4),
    ]


def test_seeds_differ_by_row_and_by_run():
    seeds = {row_seed(seed, row) for seed in range(20) for row in ("a", "b", "c")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_a_rationale_is_set_apart_and_a_missing_marker_counted(server):
    replies, metrics = await call(completions.reason, server[1], rows("marked", "plain", "overflow"))
    assert (replies[0].rationale, replies[0].answer, replies[0].marker_missing) == ("It is twice 21.", "42", False)
    assert (replies[1].rationale, replies[1].marker_missing) == (None, True)
    assert (replies[2].answer, replies[2].finish_reason, replies[2].marker_missing) == ("", "too_long", False)
    assert (metrics["marker_missing"], metrics["too_long"]) == (1, 1)


async def test_a_bare_question_may_be_answered_with_a_rationale_or_without(server):
    replies, metrics = await call(completions.answer, server[1], rows("marked", "plain"))
    assert [row.rationale for row in replies] == ["It is twice 21.", None]
    assert not any(row.marker_missing for row in replies)
    assert metrics["marker_missing"] == 0


async def test_guidelines(server):
    replies, metrics = await call(completions.write_guidelines, server[1], rows("why", "overflow"))
    assert [row.finish_reason for row in replies] == ["stop", "too_long"]
    assert replies[0].guideline.startswith("reply")  # which of the two arrives first is open
    assert replies[1].guideline == ""
    assert metrics["n"] == 2
    assert "Do not answer" in server[0].asked[0]["messages"][0]["content"]


async def test_thoughts_are_removed_and_what_ends_inside_one_is_counted(server):
    profile = PromptProfile(think=("<think>", "</think>"))
    thinks = params().model_copy(update={"model": params().model.model_copy(update={"prompts": profile})})
    replies, metrics = await call(completions.reason, server[1], rows("think", "think, cut", "overflow"), thinks)
    assert [(row.rationale, row.answer) for row in replies] == [("It is so.", "42"), (None, ""), (None, "")]
    assert (metrics["cut_in_thought"], metrics["n"]) == (1, 3)
    guidelines, _ = await call(completions.write_guidelines, server[1], rows("think", "think, cut"), thinks)
    assert [row.guideline for row in guidelines] == ["It is so.\nAnswer: 42", ""]
    (warning,) = thought_warnings([metrics, {"n": 5}, metrics])
    assert warning.startswith("2 of 6 answers of the student ended inside a thought")
    assert thought_warnings([{"n": 5}]) == []


async def test_no_rows(server):
    assert (await call(completions.answer, server[1], []))[0] == []


async def test_a_missing_adapter_is_named_and_never_retried(server):
    with pytest.raises(FatalError, match=HASH) as caught:
        await call(completions.answer, server[1], rows("a"), params(adapter=HASH))
    assert caught.value.code == "adapter_missing"
    assert len(server[0].asked) == 1


async def test_a_refused_row_ends_the_calls_beside_it(server):
    with pytest.raises(FatalError, match="top_p is odd"):
        await call(completions.answer, server[1], rows("for ever", "bad"))
    wait_until(lambda: server[0].ended_early == 1, 60, "the end of the other call")


async def test_a_cancelled_step_ends_its_calls_in_the_engine(server):
    task = asyncio.create_task(call(completions.answer, server[1], rows("for ever", "for ever")))
    await asyncio.to_thread(wait_until, lambda: len(server[0].asked) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until, lambda: server[0].ended_early == 2, 5, "the end of both calls")


async def test_an_engine_that_starts_is_waited_for(server):
    server[0].down = 2
    replies, _ = await call(completions.answer, server[1], rows("a"))
    assert replies[0].answer == "reply 3"


async def test_an_engine_that_stays_away_makes_the_step_try_later():
    with pytest.raises(TransientError, match="does not answer"):
        await call(completions.answer, f"http://127.0.0.1:{free_port()}", rows("a"), patience_s=0.5)
