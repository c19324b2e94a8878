"""`make prove`: the whole document against the real API, with requests that schemathesis makes up, single ones and chains.

The API is a process with a temporary store, a real broker and gateway, a fake engine and teacher. Prints one line of JSON; exit code 1 when a check failed.
"""

import argparse
import json
import os
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
    """At least so many requests, unless a check fails before. failures: what schemathesis printed of them."""
    total: Counter[str] = Counter()
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
            if code != 0 or not seen:
                return {"cases": total.total(), "statuses": dict(total), "seed": seed + turn, "failures": text}
    return {"cases": total.total(), "statuses": dict(total), "seed": seed, "failures": ""}


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
