"""`make prove`: the whole document against the real API, with requests that schemathesis makes up, single ones and chains.

The API is a process with a temporary store, a real broker and gateway, a fake engine and teacher. Prints one line of JSON; exit code 1 when a check failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.contract.conftest import BASE, KEY, TOKEN, RunningApi, running_api
from tests.fakes.gateway import running_gateway
from tests.fakes.start import start_teacher
from tests.fakes.valkey import running_valkey
from tests.fakes.vllm import running_vllm
from tests.prove.objects import known_objects

ROOT = Path(__file__).parents[2]
CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance",
    "what_is_malformed_is_rejected", "unsupported_method", "use_after_free", "ignored_auth",
    "counted", "nothing_fails", "nothing_leaks", "refusals_have_our_form", "answers_soon",
)  # fmt: skip
MOST_TURNS = 20
ERRORS = re.compile(r"^Errors:\n((?:  .+\n)+)", re.MULTILINE)
UNMADE = re.compile(r"^_+ ([A-Z]+ \S+) _+\nSchema Error\n", re.MULTILINE)


def not_generated(output: str) -> list[str] | None:
    """The operations of which schemathesis could not generate some kind of request: a limit of its generator ("Cannot generate an array
    with 1 demanded elements"), not an answer of ours. None where anything else went wrong."""
    kinds = [line for block in ERRORS.findall(output) for line in block.splitlines()]
    if "= FAILURES =" in output or not kinds or any("Schema Error" not in kind for kind in kinds):
        return None
    return UNMADE.findall(output) or None


def attack(
    api: RunningApi, folder: Path, known: dict[str, list[str]], examples: int, seed: int, phases: str
) -> tuple[int, Counter[str], str]:
    """One run of schemathesis. Returns its exit code, requests by status, and what it printed."""
    counts = folder / "counts.json"
    counts.write_text("{}")
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.prove.hooks",
        "PYTHONPATH": str(ROOT),
        "PROVE_KNOWN": json.dumps(known),
        "PROVE_COUNTS": str(counts),
        "PROVE_DATA": str(api.platform.data),
    }
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(ROOT / "openapi.json"), "--url", api.url,
        "--header", f"Authorization: Bearer {KEY}", "--checks", ",".join(CHECKS), "--phases", phases,
        "--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-shrink", "--no-color",
        "--request-timeout", "60", "--generation-database", "none", "--warnings", "off",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, Counter(json.loads(counts.read_text())), done.stdout + done.stderr


def prove(cases: int, seed: int, phases: str) -> dict[str, Any]:
    """At least so many requests, unless a check fails before. failures: what schemathesis printed of them. not_generated: operations
    of which it could not generate every kind of request."""
    total: Counter[str] = Counter()
    unmade = list[str]()
    operations = sum(len(item) for item in json.loads((ROOT / "openapi.json").read_text())["paths"].values())
    with (
        tempfile.TemporaryDirectory() as folder,
        running_valkey() as broker,
        running_vllm({BASE}) as engine,
        start_teacher() as teacher,
        running_gateway(teacher, Path(folder), METEOR_INTERNAL_TOKEN=TOKEN) as gateway,
        running_api(
            Path(folder) / "data",
            METEOR_API_ENGINE_URL=engine.url,
            METEOR_API_GATEWAY_URL=gateway.url,
            REDIS_URL=broker,
        ) as api,
    ):
        known = known_objects(api, Path(folder))
        for turn in range(MOST_TURNS):
            left = cases - total.total()
            if left <= 0:
                break
            examples = -(-left // operations)  # rounded up: each run reads the whole document first
            code, seen, text = attack(api, Path(folder), known, examples, seed + turn, phases)
            total += seen
            limits = not_generated(text) if code != 0 else []
            if limits is None or not seen:
                return {"cases": total.total(), "statuses": dict(total), "seed": seed + turn, "failures": text}
            unmade += limits
    return {
        "cases": total.total(), "statuses": dict(total), "seed": seed, "not_generated": sorted(set(unmade)), "failures": ""
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    given = parser.parse_args()
    result = prove(given.cases, given.seed, given.phases)
    failures = result.pop("failures")
    sys.stderr.write(failures + "\n")
    failed = bool(failures) or result["cases"] < given.cases
    sys.stdout.write(json.dumps(result | {"passed": not failed}) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
