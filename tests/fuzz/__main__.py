"""Fuzzing by coverage: `python -m tests.fuzz --target jsonl|posts|multipart|data --minutes 10`. Prints one line of JSON.

atheris (libFuzzer) begins with the saved inputs in tests/fuzz/corpus, changes them, and goes on with those that reach new code. A finding is an exception
that is not the documented error, 10 s for one input, or 1 GB of memory; its input is left in --findings, and the exit code is 1.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
LONGEST_INPUT = 20_000
WATCHED = ["shared.contracts", "shared.importing", "services.api.features.files.upload", "python_multipart"]
FIGURES = {"executions": r"stat::number_of_executed_units: (\d+)", "peak_mb": r"stat::peak_rss_mb: +(\d+)"}


def fuzz(target: str, minutes: float, runs: int, folder: Path) -> dict:
    """{target, executions, seconds, peak_mb, corpus, findings}."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="meteor-corpus-") as grown:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--target",
            target,
            "--inside",
            grown,
            str(HERE / "corpus" / target),
        ]
        command += [f"-max_total_time={max(1, round(60 * minutes))}", f"-runs={runs}", f"-max_len={LONGEST_INPUT}"]
        command += ["-timeout=10", "-rss_limit_mb=1000", "-print_final_stats=1", f"-artifact_prefix={folder}/{target}-"]
        dictionary = HERE / f"{target}.dict"
        command += [f"-dict={dictionary}"] if dictionary.exists() else []
        started, before = time.monotonic(), set(folder.iterdir())
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        figures = {name: re.search(pattern, done.stderr) for name, pattern in FIGURES.items()}
        findings = sorted(path.name for path in set(folder.iterdir()) - before)
        if done.returncode or findings or figures["executions"] is None:
            sys.stderr.write(done.stderr[-6000:])
        return {
            "target": target,
            **{name: int(match[1]) if match else None for name, match in figures.items()},
            "seconds": round(time.monotonic() - started),
            "corpus": len(list(Path(grown).iterdir())),
            "findings": findings or ([f"exit code {done.returncode}"] if done.returncode else []),
        }


def inside(target: str, arguments: list[str]) -> None:
    """The fuzzing process itself; it ends with libFuzzer's exit code."""
    import atheris
    from atheris.import_hook import instrument_imports

    with instrument_imports(include=WATCHED):
        from tests.fuzz.targets import TARGETS
    atheris.Setup(["fuzz", *arguments], TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=["jsonl", "posts", "multipart", "data"], required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=-1, help="stop after so many inputs")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside is not None:
        inside(arguments.target, arguments.inside)
        return 0
    result = fuzz(arguments.target, arguments.minutes, arguments.runs, arguments.findings)
    print(json.dumps(result))
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
