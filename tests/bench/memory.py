"""Memory of a run on this machine: `python -m tests.bench.memory --data .meteor`, beside `make demo` in another terminal.

Looks every few seconds until everything is stopped (or Ctrl-C) and keeps the highest figure of each process with its
children, and of all together; pages that processes share are divided among them (PSS). Prints one JSON object, in MB.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path

from services.local.supervisor.processes import memory
from shared.platform import run_state

LOOK_S = 3.0
MB = 1_000_000


def watch(data: Path) -> dict[str, int]:
    highest: dict[str, int] = {}
    with contextlib.suppress(KeyboardInterrupt):
        while (run := run_state.read(data)) is None or not run.alive:
            time.sleep(LOOK_S)  # it may be started before the demo is
        while (run := run_state.read(data)) is not None and run.alive:
            used = {row.name: memory(row.pid) for row in run.processes if row.pid}
            used["all"] = sum(used.values())
            highest |= {name: max(count, highest.get(name, 0)) for name, count in used.items()}
            time.sleep(LOOK_S)
    return {name: round(count / MB) for name, count in highest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".meteor"))
    print(json.dumps({"highest_mb": watch(parser.parse_args().data)}))


if __name__ == "__main__":
    main()
