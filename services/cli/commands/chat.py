"""`meteor chat`: talk to a model, or to two side by side; one question with -m, a conversation without."""

import json
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated

import httpx
import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.client import ApiClient, JsonObject, Refused, client, error_text
from services.cli.options import DEFAULT_DATA, Data, given
from shared.contracts.views import Listed, ModelObject
from shared.platform.terminal import console, say, write

ROUTE = "/v1/chat/completions"
TIMEOUT = httpx.Timeout(30, read=600)  # a small machine may take long before its first token
PROMPT = "you> "


class Side:
    """One model and its conversation. text: its answer to the last question so far."""

    def __init__(self, model: str, system: str | None):
        self.model = model
        self.messages: list[JsonObject] = [{"role": "system", "content": system}] if system else []
        self.text = ""

    def ask(self, http: httpx.Client, question: str, options: JsonObject, on_part: Callable[[str], None]) -> None:
        """Stream the answer and keep it. The conversation stays as it was if that fails. Raises Refused."""
        self.text = ""
        asked: JsonObject = {"role": "user", "content": question}
        messages = [*self.messages, asked]
        body = {"model": self.model, "messages": messages, "stream": True} | options
        try:
            with http.stream("POST", ROUTE, json=body, timeout=TIMEOUT) as reply:
                if reply.is_error:
                    reply.read()
                    raise Refused(f"{self.model}: {error_text(reply)}")
                for line in reply.iter_lines():
                    part = self._part(line)
                    self.text += part
                    on_part(part)
        except httpx.HTTPError as error:
            raise Refused(f"{self.model}: the answer broke off: {error or type(error).__name__}") from error
        answer: JsonObject = {"role": "assistant", "content": self.text}
        self.messages = [*messages, answer]

    def _part(self, line: str) -> str:
        data = line.removeprefix("data:").strip() if line.startswith("data:") else "[DONE]"
        if data == "[DONE]":
            return ""
        chunk = json.loads(data)
        if "error" in chunk:
            raise Refused(f"{self.model}: {chunk['error']['message']}")
        return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def chat(
    model: Annotated[
        str | None, typer.Argument(help="alias, alias@version or base; without one the newest alias that is served")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="one question, then end; - reads it from stdin")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="another model to answer beside it; `base` is the one it was trained on")
    ] = None,
    system: Annotated[str | None, typer.Option(help="a system text instead of the one that training used")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="longest answer, in tokens", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is always the likeliest word", min=0, max=2)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="whole answers as JSON; needs -m")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Talk to a model. Ctrl-D ends the conversation, Ctrl-C an answer."""
    options = given(max_tokens=max_tokens, temperature=temperature)
    question = sys.stdin.read().strip() if message == "-" else message
    if as_json and not question:
        raise Refused("--json wants one question: -m TEXT, or -m - to read it from stdin")
    with client(data) as api:
        names = _names(api, model, compare)
        sides = [Side(name, system) for name in names]
        if as_json:
            answers = [_whole(api, side, question or "", options) for side in sides]
            write(json.dumps(answers if compare else answers[0], ensure_ascii=False) + "\n")
        elif question:
            _ask_all(api, sides, question, options)
        else:
            _converse(api, sides, options)


def _names(api: ApiClient, model: str | None, compare: str | None) -> list[str]:
    """The models to ask. Raises Refused when one does not exist."""
    if model is None:
        served = api.ask(Listed[ModelObject], "GET", "/v1/models").data
        first = next(
            (served_model for served_model in served if served_model.parent and "@" not in served_model.id), served[0]
        )
    else:
        first = api.ask(ModelObject, "GET", f"/v1/models/{model}")
    if compare is None:
        return [first.id]
    if compare != "base":
        return [first.id, api.ask(ModelObject, "GET", f"/v1/models/{compare}").id]
    if not first.parent:
        raise Refused(f"{first.id} is a base itself; --compare wants another model's name")
    return [first.id, first.parent]


def _whole(api: ApiClient, side: Side, question: str, options: JsonObject) -> JsonObject:
    messages = [*side.messages, {"role": "user", "content": question}]
    body = {"model": side.model, "messages": messages} | options
    answer = api.answer("POST", ROUTE, json=body, timeout=TIMEOUT).json()
    choice = answer["choices"][0]
    return {
        "model": answer["model"],
        "content": choice["message"]["content"],
        "reasoning_content": choice["message"].get("reasoning_content"),
        "finish_reason": choice["finish_reason"],
        "usage": answer.get("usage"),
    }


def _converse(api: ApiClient, sides: list[Side], options: JsonObject) -> None:
    names = " and ".join(side.model for side in sides)
    say(f"talking to {names}; Ctrl-D ends")
    while True:
        try:
            question = console.input(PROMPT, markup=False).strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not question:
            continue
        try:
            _ask_all(api, sides, question, options)
        except KeyboardInterrupt:
            say("\n(stopped)")
        except Refused as error:  # the next question may fare better
            say(error.message, style="red")


def _ask_all(api: ApiClient, sides: list[Side], question: str, options: JsonObject) -> None:
    if len(sides) == 1:
        sides[0].ask(api.http, question, options, write)
        write("\n")
        return
    with ThreadPoolExecutor(len(sides)) as pool, _live() as show:
        running = [pool.submit(side.ask, api.http, question, options, lambda _: show(_table(sides))) for side in sides]
        for answer in running:
            answer.result()
    if not console.is_terminal:
        console.print(_table(sides))


@contextmanager
def _live() -> Generator[Callable[[Table], None]]:
    """Shows a table again and again in one place; where there is no terminal, nothing."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda table: live.update(table, refresh=True)


def _table(sides: list[Side]) -> Table:
    shown = Table(expand=True, show_edge=False, pad_edge=False)
    for side in sides:
        shown.add_column(Text(side.model), ratio=1, overflow="fold")
    shown.add_row(*(Text(side.text) for side in sides))
    return shown
