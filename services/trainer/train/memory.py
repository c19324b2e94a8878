"""The memory limit of one training: it fails with a clear error before the kernel kills another process."""

import re
import resource
from pathlib import Path

import torch

from services.trainer.train.model import device

GB = 1_000_000_000


def limit(gb: float | None) -> None:
    """Allow this process gb more than it uses now; beyond that PyTorch raises. Call it after the imports.

    CPU: private memory (RLIMIT_DATA), without mapped files such as weights. GPU: memory of the device. A tensor that does
    not fit raises; where only a few MB are missing, native code may end the process instead.
    """
    if gb is None:
        return
    if device().type == "cuda":
        whole = torch.cuda.get_device_properties(device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gb * GB / whole))
        return
    # Start the compute threads first: without memory for their stacks OpenMP ends the process.
    torch.zeros(1 << 20).add_(1)
    _limit_data(_data_bytes() + int(gb * GB))


def lift() -> None:
    """Remove the limit: reporting an error takes memory too."""
    _limit_data(resource.getrlimit(resource.RLIMIT_DATA)[1])


def _limit_data(soft: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _data_bytes() -> int:
    match = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0
