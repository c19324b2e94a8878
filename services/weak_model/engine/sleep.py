"""Puts vLLM to sleep and wakes it, through the sleep guard in its server (services/weak_model/sleep_guard.py)."""

import httpx

from shared.contracts.engine import SleepMode
from shared.contracts.errors import TransientError
from shared.platform.http_client import internal_sync_client
from shared.platform.log import get_logger

log = get_logger(__name__)
ASK_S, DRAIN_S = 5.0, 30.0
MOVE_S = 180.0  # weights between device and host, tens of gigabytes at some a second


class SleepControl:
    """reason: why vLLM cannot sleep, where that is known before it is started."""

    def __init__(self, url: str, token: str, reason: str | None = None):
        self._http = internal_sync_client(url, token, timeout_s=ASK_S)
        self._known = reason is not None
        self.mode = SleepMode(available=False if self._known else None, reason=reason)

    def look(self) -> None:
        """Ask a server that has just started."""
        if self._known:
            return
        try:
            available = bool(self._ask("GET", "/sleep_mode", ASK_S)["available"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self.mode = SleepMode(available=False, reason=f"vLLM does not say whether it can sleep: {error}")
            return
        self.mode = SleepMode(available=available, reason=None if available else "vLLM was started without sleep mode")

    def refused(self, reason: str) -> None:
        """vLLM does not start with sleep mode: it is started without from now on."""
        self._known, self.mode = True, SleepMode(available=False, reason=reason)

    def sleep(self) -> bool:
        """Whether it sleeps; False where requests do not end, or it cannot."""
        if not self.mode.available:
            return False
        try:
            self._ask("POST", f"/sleep?drain_s={DRAIN_S}", DRAIN_S + MOVE_S)
        except (httpx.HTTPError, ValueError) as error:
            log.warning("the engine does not sleep; it is stopped instead", reason=str(error))
            return False
        return True

    def wake(self) -> None:
        """The guard stays closed. Raises TransientError."""
        self._must("/wake_up", MOVE_S)

    def open(self) -> None:
        """Raises TransientError."""
        self._must("/open", ASK_S)

    def _must(self, path: str, timeout_s: float) -> None:
        try:
            self._ask("POST", path, timeout_s)
        except (httpx.HTTPError, ValueError) as error:
            raise TransientError(f"POST {path} failed: {error}", code="engine_unavailable") from error

    def _ask(self, method: str, path: str, timeout_s: float) -> dict[str, object]:
        answer = self._http.request(method, path, timeout=timeout_s)
        answer.raise_for_status()
        return answer.json()
