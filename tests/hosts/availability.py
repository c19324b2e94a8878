"""Whether a served version answers while hosts are struck: a client outside of all hosts that asks one api after the other."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

ASK_EVERY_S = 0.25
GIVE_UP_S = 2.0  # for one api; then the next one is asked


@dataclass
class Availability:
    """waits: seconds from asking to the first right answer of any api. refused: answers of an api that were no answer, by kind."""

    waits: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def longest_s(self) -> float:
        return max(self.waits, default=0.0)


class Prober:
    """Chats with `model` at one of `urls` after the other, until stopped."""

    def __init__(self, urls: Sequence[str], key: str, model: str):
        self.urls, self.model = list(urls), model
        self.seen = Availability()
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {key}"},
            timeout=GIVE_UP_S,
            trust_env=False,
            verify=False,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        turn = 0
        while not self._stop.wait(ASK_EVERY_S):
            begun = time.monotonic()
            while not (answered := self.ask(self.urls[turn % len(self.urls)])) and not self._stop.is_set():
                turn += 1
            self.seen.waits.append(time.monotonic() - begun)
            turn += answered  # a client without a memory of who answered last

    def ask(self, url: str) -> bool:
        body = {"model": self.model, "messages": [{"role": "user", "content": "which number comes after 7?"}]}
        try:
            answer = self._http.post(f"{url}/v1/chat/completions", json=body)
        except httpx.TransportError as error:
            self.seen.refused[type(error).__name__] += 1
            time.sleep(0.05)
            return False
        if answer.status_code != 200:
            self.seen.refused[str(answer.status_code)] += 1
            time.sleep(0.05)
        return answer.status_code == 200
