"""What a file lost before its job began is counted in the job's report, by reason, in every form."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from services.api.features.files import service as files
from services.api.features.files.upload import Received
from services.api.features.results import service as results
from services.orchestrator import scheduler
from shared.contracts.file_reading import ReadOptions
from shared.contracts.report import read_report
from tests.fakes.system import System
from tests.unit.test_report_forms import FORMS

UNWANTED = "the answer is marked as unwanted (label false) and is not used"


def upload(system: System, folder: Path, rows: list[Any], **options: Any) -> str:
    path, content = folder / "upload", b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    received = Received(path, digest, len(content), "rows.jsonl", "fine-tune", ReadOptions(**options))
    return files.add(system.context, received).id


def asked(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What does tool {n} do to a {n * 7} file?"}]


def answered(n: int, text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


async def test_the_report_counts_what_the_upload_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    system = System(tmp_path / "system", monkeypatch)
    system.world.teacher = lambda row: (row["reference"] or "an answer", "ok")
    rows: list[Any] = [
        {"prompt": asked(n), "completion": answered(n, f"answer {n}"), "label": n % 10 != 0, "stars": n}
        for n in range(120)
    ]
    bad = [{"prompt": asked(500), "completion": answered(500, "x"), "label": True, "id": "a" * 300}, {"prompt": []}]
    more = [{"question": f"How heavy is part {n * 3}?", "reference": f"mail{n}@example.com"} for n in range(40)]
    async with system.running():
        training = upload(system, tmp_path, rows + bad, skip_bad=True)
        validation = upload(system, tmp_path, more, mask=True)
        reading = files.get(system.context, training).reading
        job = system.post(training, validation=validation, phases=["distill"], judge={"labels": 0})
        await system.until(job, "succeeded")
    assert reading is not None
    assert sum(reading.skipped.values()) == 2
    report = results.report(system.context, job)
    first, second = report["data"]["files"]
    assert (first["file"], first["skipped"]) == (training, reading.skipped)
    assert (first["notes"], first["ignored_fields"]) == ({UNWANTED: 12}, {"stars": 120})
    assert (second["skipped"], second["masked"]) == ({}, {"email": 40})
    for form in FORMS.values():
        told = " ".join(form(read_report(report)).split())
        assert f"training file {training}, rows left out: " in told
        for reason, count in reading.skipped.items():
            assert f"{reason} {count}" in told
        assert f"training file {training}, decided for rows: {UNWANTED} 12" in told
        assert f"training file {training}, fields that are not read, with the rows that have them: stars 120" in told
        assert f"validation file {validation}, personal data masked: email 40" in told
