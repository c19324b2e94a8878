"""Which of several processes this is, that train one model together: one per GPU. Imports no model library."""

import os

RANK, LOCAL_RANK, WORLD = "RANK", "LOCAL_RANK", "WORLD_SIZE"  # set by torchrun


def rank() -> int:
    return int(os.environ.get(RANK, "0"))


def local_rank() -> int:
    return int(os.environ.get(LOCAL_RANK, "0"))


def count() -> int:
    return int(os.environ.get(WORLD, "1"))


def is_first() -> bool:
    """Whether this process reports and saves."""
    return rank() == 0
