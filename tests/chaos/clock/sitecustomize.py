"""Sets a process's clock by a file: DRILL_CLOCK names it, it holds seconds to add to what time.time() says.

Python imports this by itself when the folder is on PYTHONPATH. libfaketime would do the same below Python; all that METEOR
compares with the clock (leases, pauses, resending) is read with time.time().
"""

import os
import time
from pathlib import Path

_real, _file = time.time, os.environ.get("DRILL_CLOCK")


def _shifted() -> float:
    return _real() + float(Path(_file).read_text()) if _file else _real()


time.time = _shifted
