"""How far a judge can be trusted: `python -m tests.bench.judge --data LABELS.jsonl --limit 100 [--meteor .meteor]`.

A running METEOR's judge compares labelled pairs in both orders, with the prompts and the figures of a job. Rows are those
of POST /v1/labels, or PandaLM's (input, output_1, output_2, label: 0 a tie, 1, 2). Of a longer file the rows with the
lowest digests are taken, so that a larger limit holds the smaller ones. Every batch is kept as soon as it is done:
started again, it goes on where it was. Prints one JSON object; shares are [value, low, high].
"""

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.judge.compare import compare
from shared.artifacts.store import write_atomically
from shared.contracts.data import LineError, checked, json_line
from shared.contracts.errors import MeteorError, UserError
from shared.contracts.labels import Label
from shared.contracts.rows import ComparisonInput, Preference
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import JudgeParams, Sampling, StepKind, content_hash
from shared.evaluation.judge_quality import agreement, quality
from shared.platform import run_state
from shared.platform.gateway_client import GatewayClient, origin_headers

PANDALM = {0: "tie", 1: "first", 2: "second"}
BATCH = 8
Judge = Callable[[list[ComparisonInput]], Any]  # rows -> awaitable (preferences, figures)


def read(path: Path) -> tuple[list[Label], int]:
    """Different labels in the order of their digests, and how many rows of the file were left out.

    Left out are repeated rows and equal answers of which one is preferred. Raises UserError for any other bad row.
    """
    labels: dict[str, Label] = {}
    rows = 0
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        value = json_line(number, raw)
        if value is None:
            continue
        rows += 1
        if isinstance(value, dict) and "output_1" in value:
            value = _from_pandalm(value)
        if isinstance(value, dict) and value.get("first") == value.get("second") and value.get("preferred") != "tie":
            continue
        label = checked(Label, number, value) if isinstance(value, dict) else value
        if isinstance(label, LineError):
            raise UserError(f"{path.name}, line {number}: {label.message}", code="invalid_row")
        labels[label.digest] = label
    return [labels[digest] for digest in sorted(labels)], rows - len(labels)


def _from_pandalm(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": row.get("input"),
        "first": row["output_1"],
        "second": row.get("output_2"),
        "preferred": PANDALM.get(row.get("label", -1)),
    }


async def measure(labels: Sequence[Label], params: JudgeParams, judge: Judge, kept: Path) -> dict[str, Any]:
    """Figures over all labels. kept: a file of finished batches; what stands in it already is not asked again."""
    known = _finished(kept)
    rows = [
        ComparisonInput(id=x.digest[:16], question=x.question, first=x.first, second=x.second, reference=x.reference)
        for x in labels
    ]
    seen: list[Preference] = []
    counts: Counter[str] = Counter()
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        request = step_request(StepKind.COMPARE, params, [row.model_dump(mode="json") for row in batch])
        key = content_hash(request.model_dump(mode="json"))
        if key not in known:
            preferences, figures = await judge(batch)
            known[key] = {"rows": [p.model_dump(mode="json") for p in preferences], "figures": figures}
            write_atomically(kept, json.dumps(known).encode())
        seen += [Preference(**row) for row in known[key]["rows"]]
        counts.update(known[key]["figures"])
        sys.stderr.write(f"\r{len(seen)} of {len(rows)} pairs")
    sys.stderr.write("\n")
    preferred = [label.preferred for label in labels]
    figures = [quality(rows, seen, counts, preferred), agreement(seen, preferred)]
    return {
        "judge": params.judge,
        "labels": dict(Counter(preferred)),
        **{name: value for part in figures for name, value in part.model_dump(mode="json").items()},
        **{name: counts[name] for name in ("calls", "repairs", "input_tokens", "output_tokens")},
    }


def _finished(kept: Path) -> dict[str, Any]:
    return json.loads(kept.read_text()) if kept.exists() else {}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    labels, left_out = read(options.data)
    params = JudgeParams(
        judge=options.provider, domain=options.domain, sampling=Sampling(max_tokens=options.max_tokens)
    )
    url, token = options.gateway or _gateway_of(options.meteor), os.environ.get("METEOR_INTERNAL_TOKEN")
    if token is None:
        token = (options.meteor / "internal-token").read_text().strip()
    origin = origin_headers("proj_default", "bench-judge", "bench-judge", "evaluate")
    async with GatewayClient(url, token, origin, param="--provider") as gateway:

        async def judge(batch: list[ComparisonInput]) -> tuple[list[Preference], dict[str, float]]:
            return await compare(gateway, params, batch, lambda done, total: None)

        kept = options.kept or options.meteor / "bench-judge.json"
        return {"left_out": left_out} | await measure(labels[: options.limit], params, judge, kept)


def _gateway_of(data: Path) -> str:
    state = run_state.read(data)
    if state is None or not state.alive or "gateway" not in state.urls:
        raise UserError(f"no gateway runs on {data}; start one with `meteor up`, or give --gateway")
    return state.urls["gateway"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labels, JSONL")
    parser.add_argument("--limit", type=int, default=None, help="so many labels at most")
    parser.add_argument("--meteor", type=Path, default=Path(".meteor"), help="the data folder of the running METEOR")
    parser.add_argument("--gateway", default="", help="the gateway's address, when it is not this folder's")
    parser.add_argument("--provider", default="default", help='the configured judge: "default" is the teacher')
    parser.add_argument("--domain", default="following instructions of any kind")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--kept", type=Path, help="where finished batches are kept (default: in the data folder)")
    try:
        print(json.dumps(asyncio.run(run(parser.parse_args()))))
    except MeteorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
