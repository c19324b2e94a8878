"""The console of our programs."""

import sys

from rich.console import Console

LOG_WIDTH = 150  # columns of a table that goes to a file or a pipe


def make_console() -> Console:
    """As wide as the terminal; wide enough for the tables where there is none."""
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
