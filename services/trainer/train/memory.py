"""The limit on what one training may take, so that it fails with a clear error where the kernel would kill a neighbour."""

import re
import resource
from pathlib import Path

import torch

from services.trainer.train.model import device

GB = 1_000_000_000


def limit(gb: float | None) -> None:
    """Let this process take so much more than it has now; beyond it PyTorch raises. Call it after the imports.

    A CPU: private memory (RLIMIT_DATA); files that are mapped, as weights are, do not count. A GPU: memory of the device.
    Tensors that do not fit are an exception. Where a few MB are missing native code may end the process instead.
    """
    if gb is None:
        return
    if device().type == "cuda":
        whole = torch.cuda.get_device_properties(device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gb * GB / whole))
        return
    torch.zeros(1 << 20).add_(
        1
    )  # starts the threads that compute: without memory for their stacks OpenMP ends the process
    _limit_data(_data_bytes() + int(gb * GB))


def lift() -> None:
    """No limit any more: to say what went wrong takes memory too."""
    _limit_data(resource.getrlimit(resource.RLIMIT_DATA)[1])


def _limit_data(soft: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _data_bytes() -> int:
    found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
