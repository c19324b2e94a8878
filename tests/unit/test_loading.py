"""A program loads without collections of garbage, and collects as ever afterwards."""

import subprocess
import sys

CODE = """
import gc
from shared.platform.loading import loading
seen = []
gc.callbacks.append(lambda phase, info: seen.append(phase))
def allocate():
    return [[] for _ in range(100_000)]
with loading():
    kept = allocate()
    during = list(seen)
later = allocate()
print(len(during), gc.isenabled(), gc.get_freeze_count() >= len(kept), len(seen) > 0)
"""


def test_no_collection_runs_while_a_program_loads():
    """In a process of its own: what is frozen stays so."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True", "True"]


SERVICE = """
import sys
from shared.platform.loading import UNUSED, loading_a_service
with loading_a_service():
    from services.strong_model.main import main
print(*[name for name in UNUSED if name in sys.modules], "structlog" in sys.modules, "redis" in sys.modules)
"""


def test_a_service_leaves_out_what_it_never_uses_until_it_is_loaded():
    done = subprocess.run([sys.executable, "-c", SERVICE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
