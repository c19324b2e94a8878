"""Calls to the server that may take minutes, given up when the engine is to stop."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
LOOK_S = 0.1


class Stopped(Exception):
    """The engine is to stop; the call is not waited for."""


def unless_stopped(call: Callable[[], T], is_stopping: Callable[[], bool]) -> T:
    """What the call returns or raises. Raises Stopped once is_stopping; the call then ends with its server. is_stopping is polled: an
    Event that is set in a signal handler can deadlock."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="server-call", daemon=True).start()
    while not wait([answer], timeout=LOOK_S).done:
        if is_stopping():
            raise Stopped
    return answer.result()
