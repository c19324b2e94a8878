"""How the student's engine and training share one device."""

from enum import StrEnum


class DeviceSharing(StrEnum):
    """memory: both at once, each in its part.  time: a training has all of it while the engine sleeps or is stopped."""

    MEMORY = "memory"
    TIME = "time"


SHARES = {DeviceSharing.MEMORY: 0.45, DeviceSharing.TIME: 0.9}  # of a GPU's memory for the engine, where none is named


def engine_share(given: float | None, sharing: DeviceSharing) -> float:
    """Of a GPU's memory, for the student's engine."""
    return SHARES[sharing] if given is None else given
