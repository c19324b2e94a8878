"""Loading a program's modules with garbage collection off."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def loading() -> Generator[None]:
    """For the imports of a process. They make objects that stay until its end, millions in a training: the collections that they set
    off find nothing and take a quarter of the time. Later collections leave these objects out.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
