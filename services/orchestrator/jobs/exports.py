"""An export: the version merged and compared with itself, its files listed, its card written. Its steps run on `train`."""

import asyncio
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from services.orchestrator.jobs import card, parity
from services.orchestrator.method.questions import survey
from services.orchestrator.method.selection import general_questions, seeded_order
from services.orchestrator.runtime.run import DurableRun
from services.orchestrator.runtime.steps import StepClient, when_disk_has_space
from shared.artifacts.archives import archive_of, exported, manifest_of, readme_of
from shared.artifacts.bases import Base, Bases
from shared.artifacts.store import ArtifactMissing
from shared.contracts.data import Question, Split
from shared.contracts.export_steps import GgufParams, MergeParams, PushParams
from shared.contracts.exports import MANIFEST, README, Download, ExportFormat, ExportIndex, ExportRequest
from shared.contracts.jobs import JobRequest
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.report import read_report
from shared.contracts.rows import ParitySample, StudentCompletion, StudentPrompt, asked
from shared.contracts.steps import ModelRef, Sampling, StepKind, StudentParams
from shared.datasets.files import data_of
from shared.jobs.catalog import ref_of
from shared.jobs.records import FileRecord, JobRecord, ModelRecord
from shared.ledger.store import Ledger

PROMPTS = 8
TOKENS = 32  # of each answer that is compared
LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]{1,64})[\"']?\s*$", re.MULTILINE)


class ExportRun(DurableRun):
    """version: the row of the model. origin: its job, where it has one. prompts, shows_calls: how its base must be
    prompted. questions: on which its forms are compared."""

    def __init__(
        self,
        job: JobRecord,
        version: ModelRecord,
        origin: JobRecord | None,
        base: Base,
        prompts: PromptProfile | None,
        shows_calls: bool,
        steps: StepClient,
        ledger: Ledger,
    ):
        self.request = ExportRequest.model_validate(job.request)
        self.version = version
        self.origin = origin
        self.base = base
        self.prompts = prompts
        self.shows_calls = shows_calls
        self.questions: list[Question] = []
        plan = {
            ("compare", StepKind.MERGE): PROMPTS,
            ("compare", StepKind.ANSWER): PROMPTS,
            ("package", StepKind.GGUF): int(ExportFormat.GGUF in self.request.formats),
            ("push", StepKind.PUSH): int(self.request.push is not None),
        }
        super().__init__(job, steps, ledger, plan, PROMPTS)

    @property
    def ref(self) -> ModelRef:
        return ref_of(self.version).model_copy(update={"prompts": self.prompts})


async def open_export(steps: StepClient, ledger: Ledger, bases: Bases, row: JobRecord) -> ExportRun:
    request, stores = ExportRequest.model_validate(row.request), steps.stores
    version = await asyncio.to_thread(stores.catalog.resolve, row.project_id, request.model_id)
    origin = await asyncio.to_thread(stores.jobs.get, version.job_id) if version.job_id else None
    base = bases.find(version.base) or Base(version.base, None)
    prompts = await asyncio.to_thread(bases.prompts, version.base, steps_only=True)
    shows_calls = await asyncio.to_thread(bases.shows_calls, version.base)
    run = ExportRun(row, version, origin, base, prompts, shows_calls, steps, ledger)
    run.questions = await asyncio.to_thread(_questions, run)
    if any(question.messages is not None for question in run.questions):
        run.prompts = await asyncio.to_thread(bases.prompts, version.base)
    return run


async def export(run: ExportRun) -> dict[str, Any]:
    """What is written into the job's row: the index's hash, the downloads, the figures. Raises ParityFailed."""
    formats = run.request.formats
    rows = [StudentPrompt(**asked(question, run.shows_calls)) for question in run.questions]
    await run.enter("compare")
    merging = MergeParams(
        model=run.ref, keep=any(form is not ExportFormat.ADAPTER for form in formats), max_new_tokens=TOKENS
    )
    merged = await run.step("compare/merge", StepKind.MERGE, merging, rows)
    samples = [ParitySample.model_validate(row) for row in merged.rows]
    figures = parity.compare(samples, await _served(run, rows, {one.id for one in samples}))
    await run.emit("compared: base plus adapter, merged model, served model", type="metrics", **figures)
    parity.check(figures)
    await run.enter("package")
    folders = await _folders(run, merged.folder)
    index = await when_disk_has_space(lambda: _index(run, folders, figures), lambda _: None)
    reference = await when_disk_has_space(lambda: run.artifacts.put_json(index.model_dump(mode="json")), lambda _: None)
    downloads = [download.model_dump(mode="json") for download in index.downloads]
    result: dict[str, Any] = {"downloads": downloads, "parity": figures}
    if run.request.push is not None:
        await run.enter("push")
        pushing = PushParams(job=run.job.id, export=reference, **run.request.push.model_dump())
        result["pushed"] = (await run.step("push", StepKind.PUSH, pushing, [])).metrics["url"]
    return {"report_ref": reference, "result": result, "status_reason": None}


async def _served(run: ExportRun, rows: list[StudentPrompt], ids: set[str]) -> list[StudentCompletion]:
    """What the engine says to those that fitted into the comparison."""
    domain = run.origin.request["distillation"]["domain"] if run.origin is not None else ""
    params = StudentParams(model=run.ref, domain=domain, sampling=Sampling(max_tokens=TOKENS))
    result = await run.step("compare/served", StepKind.ANSWER, params, [row for row in rows if row.id in ids])
    return [StudentCompletion.model_validate(row) for row in result.rows]


def _questions(run: ExportRun) -> list[Question]:
    """Of the job's dev split, in its own order; general ones where that is not kept any more, or was too small."""
    questions: list[Question] = []
    seed = 0
    if run.origin is not None:
        request = JobRequest.model_validate(run.origin.request)
        seed = request.seed
        try:
            rows = data_of(run.origin, run.stores.catalog.file_of_job).rows(run.artifacts, run.stores.catalog)
            questions = [*survey(rows, seed).splits[Split.DEV][:PROMPTS]]
        except ArtifactMissing:
            questions = []
    return questions + seeded_order(general_questions(), seed)[: PROMPTS - len(questions)]


async def _folders(run: ExportRun, merged: str | None) -> dict[ExportFormat, str]:
    """Format -> the content hash of its files."""
    folders: dict[ExportFormat, str] = {}
    for form in run.request.formats:
        if form is ExportFormat.ADAPTER:
            folders[form] = run.version.adapter
        elif merged is None:
            raise ValueError("the merge step has kept no folder")
        elif form is ExportFormat.MERGED:
            folders[form] = merged
        else:
            made = await run.step("package/gguf", StepKind.GGUF, GgufParams(folder=merged), [])
            assert made.folder is not None
            folders[form] = made.folder
    return folders


def _index(run: ExportRun, folders: dict[ExportFormat, str], parity_figures: dict[str, Any]) -> ExportIndex:
    """Reads every file once or twice to hash it: seconds per GB."""
    top = run.request.model.replace("@", "-")
    manifest = {
        "object": "model.export.manifest",
        "model": run.request.model,
        "state": run.version.state,
        "method": run.version.method,
        "base": {"name": run.version.base, "sha256": run.version.base_hash},
        "trained": run.version.adapter,
        "job": run.version.job_id,
        "domain": run.origin.request["distillation"]["domain"] if run.origin is not None else None,
        "data": _data(run),
        "licences": licence_of(run.base.folder),
        "parity": parity_figures,
        "formats": {form.value: _listed(run.artifacts.folder(digest)) for form, digest in folders.items()},
    }
    if run.prompts is not None:
        manifest["prompts"] = run.prompts.model_dump(mode="json")
    reference = run.origin.report_ref if run.origin is not None else None
    report = read_report(run.artifacts.get_json(reference)) if reference else None
    index = ExportIndex(top=top, folders=folders, readme=card.card(manifest, report, top), manifest=manifest)
    for name, content in ((README, readme_of(index)), (MANIFEST, manifest_of(index))):
        digest = hashlib.sha256(content).hexdigest()
        index.downloads.append(Download(name=name, format=None, bytes=len(content), sha256=digest))
    for form in folders:
        archive = archive_of(index, form, run.artifacts)
        index.downloads.append(
            Download(name=f"{form.value}.tar", format=form, bytes=archive.size, sha256=archive.sha256())
        )
    return index


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """File name -> bytes and SHA-256."""
    files = {}
    for path in exported(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return files


def _data(run: ExportRun) -> dict[str, Any] | None:
    if run.origin is None or run.origin.file_id is None:
        return None
    data = data_of(run.origin, run.stores.catalog.file_of_job)
    told = _told(data.training) | {"splits": {split.value: count for split, count in data.splits.items()}}
    return told if data.validation is None else told | {"validation": _told(data.validation)}


def _told(file: FileRecord) -> dict[str, Any]:
    return {"filename": file.filename, "sha256": file.sha256, "rows": file.n_rows}


def licence_of(folder: Path | None) -> dict[str, str | None]:
    """base: what the base's folder says of its licence, and base_from: where; None where it does not say."""
    unknown: dict[str, str | None] = {"base": None, "base_from": None}
    if folder is None:
        return unknown
    ours, theirs = folder / "meteor.json", folder / README
    if ours.is_file() and (said := json.loads(ours.read_text()).get("licence")):
        return {"base": said, "base_from": "METEOR's catalogue"}
    if theirs.is_file() and (match := LICENCE.search(theirs.read_text(errors="replace")[:20_000])):
        return {"base": match[1], "base_from": "the base's own model card"}
    return unknown
