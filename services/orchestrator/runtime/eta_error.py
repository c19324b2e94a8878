"""How wrong a job's announcements of the time left were, computed when it has ended."""

import time
from collections.abc import Callable
from statistics import fmean

FEWEST = 5  # values
SHORTEST_S = 10.0


class EtaError:
    """note: each value as it is told. Of a job that was taken up again the values of the last process count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._began = clock()
        self._told: list[tuple[float, float]] = []

    def note(self, eta_s: float | None) -> None:
        if eta_s is not None:
            self._told.append((self._clock(), eta_s))

    def at_end(self) -> float | None:
        """The mean absolute error as a share of the run time; None: too little was told."""
        ended = self._clock()
        if len(self._told) < FEWEST or ended - self._began < SHORTEST_S:
            return None
        return fmean(abs(eta - (ended - at)) for at, eta in self._told) / (ended - self._began)
