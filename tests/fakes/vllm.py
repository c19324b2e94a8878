"""A small engine that speaks vLLM's dialect of the OpenAI protocol, for tests of the chat proxy.

What it does follows from the last message (or the prompt): "think" answers with a rationale, "refuse" is refused
in vLLM's error shape, "fail" breaks off with an error event, "drop" closes the connection in mid-stream, "wait" never answers,
"trickle" begins a stream that never ends. Anything else is echoed; where the engine may call a tool it calls the first one, and where
the answer has a schema and the text is no JSON, it is a value of the schema. What vLLM refuses is refused in vLLM's own words.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from tests.fakes.ports import free_port, wait_until
from tests.fakes.schema_values import value_for

CONTEXT = 2048  # tokens, each the word "word"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass
class FakeVllm:
    """The served names, the routes there are, what was asked (body, authorization), how many requests their callers left, which
    models keep their askers waiting (held: so many of them), and which say something of their own instead of the echo."""

    models: set[str]
    routes: set[str] = field(default_factory=lambda: {"/v1/chat/completions", "/v1/completions"})
    url: str = ""
    asked: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    takes_priority: bool = True
    tool_parser: bool = True
    slow: set[str] = field(default_factory=set)
    says: dict[str, str] = field(default_factory=dict)
    held: int = 0
    waiting: int = 0
    left: int = 0

    @property
    def last(self) -> dict[str, Any]:
        return self.asked[-1][0]


def _refused(status: int, message: str, kind: str, param: str | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": status}}, status)


def _refusal(body: dict[str, Any], state: FakeVllm) -> JSONResponse | None:
    """What vLLM 0.32 says to requests that it does not take."""

    def bad(message: str, param: str | None = None) -> JSONResponse:
        return _refused(400, message, "BadRequestError", param)

    for name in ("max_completion_tokens", "max_tokens"):
        if (body.get(name) or 0) > CONTEXT:
            words = f"{name}={body[name]} cannot be greater than max_model_len={CONTEXT}. Please request fewer output tokens."
            return bad(f"{words} (parameter={name}, value={body[name]})", name)
    prompt = " ".join(str(message["content"]) for message in body.get("messages", ())) or str(body.get("prompt"))
    if (tokens := prompt.count("word ")) > CONTEXT:
        return bad(
            f"This model's maximum context length is {CONTEXT} tokens. However, your prompt contains at least {tokens} input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
            f"(parameter=input_tokens, value={tokens})",
            "input_tokens",
        )
    if body.get("n", 1) > 1 and body.get("temperature") == 0:
        return bad(f"n must be 1 when using greedy sampling, got {body['n']}. (parameter=n, value={body['n']})", "n")
    if body.get("tools") and body.get("tool_choice", "auto") == "auto" and not state.tool_parser:
        return bad('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    for place, message in enumerate(body.get("messages", ())):
        if message["role"] not in ("system", "user", "assistant", "tool"):
            error = {"type": "literal_error", "loc": f"body.messages.{place}.role", "input": message}
            return bad(f"1 validation error:\n  {error}\n", f"body.messages.{place}.role")
    return None


def _event(value: dict[str, Any], name: str = "") -> str:
    """Compact, as vLLM writes it."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(_head(model, "chat.completion.chunk") | {"choices": [choice]})


async def _chunks(body: dict[str, Any], word: str, usage: bool, says: str = "Hello é") -> AsyncIterator[str]:
    model = body["model"]
    yield _chunk(model, {"role": "assistant", "content": ""})
    if _calls(body):
        call = {"index": 0, "id": "call-1", "type": "function", "function": _called(body)}
        yield _chunk(model, {"tool_calls": [call]}, "tool_calls")
        yield "data: [DONE]\n\n"
        return
    text = _text(body, word) if _schema(body) is not None else says
    middle = text.find('"') + 5 if _schema(body) is not None else 3
    yield _chunk(model, {"content": text[:middle]})
    if word == "fail":
        yield _event({"error": {"message": f"{model} is out of memory", "type": "InternalServerError", "code": 500}})
        return
    if word == "drop":
        raise ConnectionError("the engine died")  # uvicorn closes the connection without the last chunk
    yield _chunk(model, {"content": text[middle:]}, "stop")
    if usage:
        yield _event(_head(model, "chat.completion.chunk") | {"choices": [], "usage": USAGE})
    yield "data: [DONE]\n\n"


def _schema(body: dict[str, Any]) -> dict[str, Any] | None:
    form = body.get("response_format") or {}
    return form["json_schema"]["schema"] if form.get("type") == "json_schema" else None


def _calls(body: dict[str, Any]) -> bool:
    """The result of a call is answered in words."""
    told = body["messages"][-1]["role"] == "tool" if body.get("messages") else False
    return bool(body.get("tools")) and body.get("tool_choice", "auto") != "none" and not told


def _called(body: dict[str, Any]) -> dict[str, Any]:
    function = body["tools"][0]["function"]
    arguments = value_for(function["parameters"], 1) if function.get("parameters") else {}
    return {"name": function["name"], "arguments": json.dumps(arguments)}


def _text(body: dict[str, Any], word: str) -> str:
    """The word, or where there is a schema that it does not fit, a value of it."""
    schema = _schema(body)
    if schema is None:
        return "It is twice 21.\nAnswer: 42" if word == "think" else word
    try:
        json.loads(word)
        return word
    except ValueError:
        return json.dumps(value_for(schema, 1), separators=(",", ":"))


async def _trickle(model: str, state: FakeVllm) -> AsyncIterator[str]:
    """Begins, and then nothing comes for as long as the caller stays."""
    state.waiting += 1
    try:
        yield _chunk(model, {"content": "Hel"})
        await asyncio.sleep(600)
    finally:
        state.left += 1


async def _texts(model: str, word: str) -> AsyncIterator[str]:
    for text, finish in ((word[:2], None), (word[2:], "stop")):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        yield _event(_head(model, "text_completion") | {"choices": [choice]})
    yield "data: [DONE]\n\n"


def _choice(body: dict[str, Any], word: str) -> dict[str, Any]:
    """A call of the first tool, where there is one, else a text; with the log-probability of its one token, if that is wanted."""
    message: dict[str, Any] = {"role": "assistant", "content": _text(body, word)}
    if _calls(body):
        message |= {"content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": _called(body)}]}
    entry = {"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []}
    return {
        "index": 0,
        "message": message,
        "logprobs": {"content": [entry]} if body.get("logprobs") else None,
        "finish_reason": "tool_calls" if _calls(body) else "stop",
    }


async def _plain(body: dict[str, Any], word: str) -> Any:
    """/v1/completions"""
    if body.get("stream"):
        return StreamingResponse(_texts(body["model"], word), media_type="text/event-stream")
    choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": "stop"}
    return _head(body["model"], "text_completion") | {"choices": [choice], "usage": USAGE}


def _last_word(body: dict[str, Any]) -> str:
    given = body.get("messages", body.get("prompt"))
    return str(given[-1]["content"] if isinstance(given, list) and isinstance(given[-1], dict) else given)


def vllm_app(state: FakeVllm) -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({})

    async def asked(request: Request, answer: Callable[[dict[str, Any], str], Awaitable[Any]]) -> Any:
        if request.url.path not in state.routes:
            return JSONResponse({"detail": "Not Found"}, 404)
        body = await request.json()
        state.asked.append((body, request.headers.get("authorization", "")))
        word = _last_word(body)
        if body["model"] not in state.models:
            return _refused(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if "priority" in body and not state.takes_priority:
            return _refused(400, "Got priority 10 but priority scheduling is not enabled.", "BadRequestError")
        if word == "refuse":
            return _refused(400, "this word is not to the engine's taste", "BadRequestError")
        if (refusal := _refusal(body, state)) is not None:
            return refusal
        if word == "wait":
            state.waiting += 1
            while (await request.receive())["type"] != "http.disconnect":
                continue
            state.left += 1
            return _refused(499, "left", "ClientLeft")
        state.held += 1
        while body["model"] in state.slow:  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.02)
        state.held -= 1
        return await answer(body, state.says.get(body["model"], word))

    async def chatted(body: dict[str, Any], word: str) -> Any:
        if word == "trickle":
            return StreamingResponse(_trickle(body["model"], state), media_type="text/event-stream")
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            says = state.says.get(body["model"], "Hello é")
            return StreamingResponse(_chunks(body, word, usage, says), media_type="text/event-stream")
        choices = [_choice(body, word) | {"index": n} for n in range(body.get("n", 1))]
        return _head(body["model"], "chat.completion") | {"choices": choices, "usage": USAGE}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request):
        return await asked(request, chatted)

    @app.post("/v1/completions", response_model=None)
    async def complete(request: Request):
        return await asked(request, _plain)

    return app


@contextmanager
def running_vllm(models: set[str]) -> Generator[FakeVllm]:
    """The engine on a free loopback port, in a thread of this process."""
    state = FakeVllm(models)
    port = free_port()
    state.url = f"http://127.0.0.1:{port}"
    config = uvicorn.Config(vllm_app(state), host="127.0.0.1", port=port, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 60, "the fake engine")
        yield state
    finally:
        server.should_exit = True
        thread.join(10)
