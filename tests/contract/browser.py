"""A real browser, driven over Chromium's own debugging pipe: no driver, no library."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ANSWER_S = 60.0
# The browser reads commands from descriptor 3 and writes to 4.
LAUNCH = 'exec 8<&"$1" 9>&"$2"; exec 3<&8 4>&9; shift 2; exec "$@"'
FLAGS = ("--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


class Browser:
    """events: what the browser told unasked, as (method, params), in order. `session` is the tab that is spoken to."""

    def __init__(self, send: int, receive: int):
        self._send, self._receive = send, receive
        self._rest, self._last = b"", 0
        self.session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while True:
            told = self._next(deadline)
            if told.get("id") == self._last:
                assert "error" not in told, (method, told["error"])
                return told["result"]
            if told.get("method") == "Page.javascriptDialogOpening":  # it holds everything up until somebody answers
                return {}

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._receive, 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        told = json.loads(line)
        if "method" in told:
            self.events.append((told["method"], told["params"]))
        return told

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.attach(target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def attach(self, target: str) -> None:
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def evaluate(self, script: str) -> Any:
        """The script's value, which must be JSON; it counts as something that a person does."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found.get("result", {}).get("value")

    def until(self, script: str, timeout_s: float = ANSWER_S) -> None:
        """Waits for the script to be true, as the browser sees it."""
        deadline = time.monotonic() + timeout_s
        while not self.evaluate(f"!!({script})"):
            assert time.monotonic() < deadline, f"{script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.1)

    def told(self, *methods: str) -> list[dict[str, Any]]:
        return [params for method, params in self.events if method in methods]


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None
    (commands, send), (receive, answers) = os.pipe(), os.pipe()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = ["bash", "-c", LAUNCH, "bash", str(commands), str(answers), CHROMIUM, *FLAGS, *sandbox]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={profile}"], pass_fds=(commands, answers), stderr=subprocess.DEVNULL
    )
    os.close(commands)
    os.close(answers)
    browser = Browser(send, receive)
    try:
        yield browser
        browser.session = None
        browser.call("Browser.close")
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(send)
        os.close(receive)
