"""Our SFT trainer against a bare TRL script (trl_script.py): same model, rows, batch, length and LoRA, each in a process of its own.

    python -m tests.bench.versus_trainer --model FOLDER --data examples/shell.jsonl

The two take turns and each one's best turn counts. tokens_per_s: tokens that are no padding, by the clock; `ratio` is ours over TRL's.
`cpu_ratio` is the same by seconds of processor time, which other work on the machine disturbs less. peak_mb: the most memory that the
process held; `memory_ratio` is ours over TRL's, so less than 1 is less memory. Prints one line of JSON.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.bench.training_options import training_options

WAYS = ("ours", "trl")


class Turn(NamedTuple):
    """tokens_per_s by the clock and by processor time; peak_mb: of the process."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    peak_mb: float


def train(way: str, model: Path, data: Path, rows: int, batch_size: int, threads: int) -> Turn:
    """In this process, which does nothing else."""
    from services.trainer.train.model import use_cores
    from tests.bench import training, trl_script

    use_cores(threads)
    examples, params = training.examples_in(data, rows), training.params_with(batch_size)
    if way == "ours":
        with tempfile.TemporaryDirectory() as folder:
            rate = training.ours(training.spec_of(model, params, Path(folder)), params, examples)
    else:
        timer, trainer = training.Timer(), trl_script.trainer(model, params, examples)
        trainer.add_callback(timer)
        trainer.train()
        rate = timer.rate()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Turn(round(rate.clock, 1), round(rate.cpu, 1), round(peak))


def turn(way: str, arguments: list[str]) -> Turn:
    """One training in a process of its own."""
    argv = [sys.executable, "-m", "tests.bench.versus_trainer", "--way", way, *arguments]
    ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return Turn(*json.loads(ended.stdout.splitlines()[-1]))


def main() -> None:
    parser = training_options(__doc__)
    parser.add_argument("--way", choices=WAYS, help="train this way in this process (used by the bench itself)")
    given = parser.parse_args()
    if given.way:
        made = train(given.way, given.model, given.data, given.rows, given.batch_size, given.threads)
        print(json.dumps(made))
        return
    names = ("model", "data", "rows", "batch_size", "threads")
    arguments = [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(given, name)))]
    turns = [{way: turn(way, arguments) for way in WAYS} for _ in range(given.turns)]
    best = {
        way: Turn(
            max(one[way].tokens_per_s for one in turns),
            max(one[way].tokens_per_cpu_s for one in turns),
            min(one[way].peak_mb for one in turns),
        )
        for way in WAYS
    }
    result = {
        "benchmark": "sft_versus_trl",
        **{way: best[way]._asdict() for way in WAYS},
        "ratio": round(best["ours"].tokens_per_s / best["trl"].tokens_per_s, 3),
        "cpu_ratio": round(best["ours"].tokens_per_cpu_s / best["trl"].tokens_per_cpu_s, 3),
        "memory_ratio": round(best["ours"].peak_mb / best["trl"].peak_mb, 3),
        "turns": turns,
        "rows": given.rows,
        "batch_size": given.batch_size,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
