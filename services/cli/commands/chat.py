"""`meteor chat`: talk to a model, or to two side by side; one question with -m, a conversation without."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.client import DEFAULT_DATA, Data, Refused, ask, client, words
from shared.platform.terminal import make_console

ROUTE = "/v1/chat/completions"
PATIENCE = httpx.Timeout(30, read=600)  # a small machine may think for long before its first word
PROMPT = "you> "
console = make_console()


class Side:
    """One model and its conversation. text: what it has said so far to the last question."""

    def __init__(self, model: str, system: str | None):
        self.model = model
        self.messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        self.text = ""

    def asked(self, api: httpx.Client, question: str, options: dict[str, Any], tell: Callable[[str], None]) -> None:
        """Stream the answer and keep it. The conversation stays as it was if that fails. Raises Refused."""
        self.text = ""
        messages = [*self.messages, {"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "stream": True} | options
        try:
            with api.stream("POST", ROUTE, json=body, timeout=PATIENCE) as reply:
                if reply.is_error:
                    reply.read()
                    raise Refused(f"{self.model}: {words(reply)}")
                for line in reply.iter_lines():
                    part = self._part(line)
                    self.text += part
                    tell(part)
        except httpx.HTTPError as error:
            raise Refused(f"{self.model}: the answer broke off: {error or type(error).__name__}") from error
        self.messages = [*messages, {"role": "assistant", "content": self.text}]

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
    given = {"max_tokens": max_tokens, "temperature": temperature}
    options = {name: value for name, value in given.items() if value is not None}
    question = sys.stdin.read().strip() if message == "-" else message
    if as_json and not question:
        raise Refused("--json wants one question: -m TEXT, or -m - to read it from stdin")
    with client(data) as api:
        names = _names(api, model, compare)
        sides = [Side(name, system) for name in names]
        if as_json:
            answers = [_whole(api, side, question or "", options) for side in sides]
            print(json.dumps(answers if compare else answers[0], ensure_ascii=False))
        elif question:
            _ask_all(api, sides, question, options)
        else:
            _converse(api, sides, options)


def _names(api: httpx.Client, model: str | None, compare: str | None) -> list[str]:
    """The models to ask. Raises Refused when one does not exist."""
    if model is None:
        there = ask(api, "GET", "/v1/models")["data"]
        found = next((one for one in there if one.get("parent") and "@" not in one["id"]), there[0])
    else:
        found = ask(api, "GET", f"/v1/models/{model}")
    name: str = found["id"]
    if compare is None:
        return [name]
    if compare != "base":
        return [name, ask(api, "GET", f"/v1/models/{compare}")["id"]]
    if not found.get("parent"):
        raise Refused(f"{name} is a base itself; --compare wants another model's name")
    return [name, found["parent"]]


def _whole(api: httpx.Client, side: Side, question: str, options: dict[str, Any]) -> dict[str, Any]:
    messages = [*side.messages, {"role": "user", "content": question}]
    body = {"model": side.model, "messages": messages} | options
    answer = ask(api, "POST", ROUTE, json=body, timeout=PATIENCE)
    choice = answer["choices"][0]
    return {
        "model": answer["model"],
        "content": choice["message"]["content"],
        "reasoning_content": choice["message"].get("reasoning_content"),
        "finish_reason": choice["finish_reason"],
        "usage": answer.get("usage"),
    }


def _converse(api: httpx.Client, sides: list[Side], options: dict[str, Any]) -> None:
    names = " and ".join(side.model for side in sides)
    console.print(f"talking to {names}; Ctrl-D ends", highlight=False, markup=False)
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
            console.print("\n(stopped)", highlight=False)
        except Refused as error:  # the next question may fare better
            console.print(error.message, style="red", highlight=False, markup=False)


def _ask_all(api: httpx.Client, sides: list[Side], question: str, options: dict[str, Any]) -> None:
    if len(sides) == 1:
        sides[0].asked(api, question, options, lambda part: print(part, end="", flush=True))
        print()
        return
    with ThreadPoolExecutor(len(sides)) as pool, _live() as show:
        running = [pool.submit(side.asked, api, question, options, lambda _: show(_table(sides))) for side in sides]
        for one in running:
            one.result()
    if not console.is_terminal:
        console.print(_table(sides))


@contextmanager
def _live() -> Iterator[Callable[[Table], None]]:
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
