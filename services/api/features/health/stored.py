"""How many bytes the folders of data hold: read in the background, because a walk over many files takes seconds."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric

from shared.platform.log import get_logger

log = get_logger(__name__)
PLACES = ("artifacts", "files", "serving", "scratch")
READ_EVERY_S = 300.0


class StoredBytes:
    def __init__(self, data: Path):
        self._data = data
        self._bytes: dict[str, int] = {}
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """As they were at the last read; the first scrape of a process has none."""
        if time.monotonic() - self._read_at >= READ_EVERY_S and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read, name="stored-bytes", daemon=True).start()
        stored = GaugeMetricFamily("meteor_stored_bytes", "Bytes in the data folder, by part", labels=["place"])
        for place, size in self._bytes.items():
            stored.add_metric([place], size)
        yield stored
        told = "Bytes that are free on the disk of the data folder"
        free = GaugeMetricFamily("meteor_disk_free_bytes", told)
        try:
            free.add_metric([], shutil.disk_usage(self._data).free)
        except OSError as error:
            log.warning("free space not read", error=str(error))
        yield free

    def _read(self) -> None:
        try:
            self._bytes = {place: size_of(self._data / place) for place in PLACES}
        finally:
            self._read_at = time.monotonic()
            self._reading.release()


def size_of(folder: Path) -> int:
    """Bytes of the files below; what is removed meanwhile counts nothing, and a link nothing."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return size
