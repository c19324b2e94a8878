"""Two transactions in a given order: one is held after a statement of it until the other is done, or waits for a lock."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from sqlalchemy import Engine, event

WAITS_S = 0.3  # by then the other one waits for what the held one has locked


class Ended(NamedTuple):
    """What a deed returned, or the error that it met."""

    value: Any = None
    error: BaseException | None = None


def held_after(
    engine: Engine, statement: str, held: Callable[[], Any], other: Callable[[], Any]
) -> tuple[Ended, Ended]:
    """Do `held`, stop it after its first statement that contains these words, do `other` meanwhile, let both end."""
    reached, go_on, waiting = threading.Event(), threading.Event(), threading.local()
    stopped = threading.Event()

    def stop(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if getattr(waiting, "here", False) and statement in text:
            waiting.here = False
            stopped.set()
            reached.set()
            go_on.wait(10)

    def first() -> Ended:
        waiting.here = True
        try:
            return _ended(held)
        finally:
            reached.set()

    event.listen(engine, "after_cursor_execute", stop)
    try:
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(first)
            assert reached.wait(10)
            assert stopped.is_set(), f"no statement of it has {statement!r}: {one.result(10)}"
            two = pool.submit(_ended, other)
            threading.Timer(WAITS_S, go_on.set).start()
            two.add_done_callback(lambda _: go_on.set())
            return one.result(20), two.result(20)
    finally:
        event.remove(engine, "after_cursor_execute", stop)


def _ended(deed: Callable[[], Any]) -> Ended:
    try:
        return Ended(deed())
    except Exception as error:
        return Ended(error=error)
