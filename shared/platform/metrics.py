"""Bounds for the labels of metrics."""

import threading

OTHER = "other"
MOST = 200  # sets of values that callers make, of one metric and process


class LabelSets:
    """Values of labels that callers make: the first `most` sets as they are, all later ones as `other`. So a process's memory, and
    what Prometheus stores, does not grow with every project and version."""

    def __init__(self, most: int = MOST):
        self._most = most
        self._known: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def admit(self, *values: str) -> tuple[str, ...]:
        with self._lock:
            if values in self._known:
                return values
            if len(self._known) >= self._most:
                return (OTHER,) * len(values)
            self._known.add(values)
        return values
