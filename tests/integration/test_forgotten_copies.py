"""Copies of rows and chats that are forgotten: labels go with the call; runs of evals and exports are named."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.evals import service as evals
from services.api.features.forgetting import service as forgetting
from services.api.features.forgetting.copies import exports_of
from services.api.features.labels import service as labels
from services.api.paging import Paging
from shared.contracts.evals import EvalRequest, RunRequest
from shared.contracts.exports import ExportFormat, ExportRequest
from shared.contracts.forgetting import ForgetRequest, ForgetResult, LearnedBy
from shared.contracts.labels import Label
from shared.datasets.files import rows_of
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.system import System
from tests.integration.test_recipes_of_chats import asked, serve
from tests.integration.test_traces_of_a_person import places

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}}
SAME = {
    "type": "string_check", "name": "same", "operation": "eq", "input": "{{item.question}}", "reference": "{{item.question}}"
}  # fmt: skip


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def forget(system: System, **what: Any) -> ForgetResult:
    return forgetting.forget(system.context, ForgetRequest(**what))


def label(system: System, question: str, first: str = "one") -> None:
    system.stores.labels.add(DEFAULT_PROJECT, [Label(question=question, first=first, second="two", preferred="first")])


def ran(system: System, **source: Any) -> str:
    wanted = {"data_source_config": {"type": "custom", "item_schema": SCHEMA}, "testing_criteria": [SAME]}
    made = evals.create(system.context, EvalRequest.model_validate(wanted))
    run = RunRequest.model_validate({"data_source": {"type": "jsonl", "source": source}})
    return evals.create_run(system.context, made.id, run).id


def test_labels_on_what_a_person_has_asked_are_deleted_withdrawn_ones_too(system: System):
    serve(system, *range(14))
    label(system, asked(3))
    withdrawn = labels.page(system.context, Paging(None, 10)).data[0].id
    system.stores.labels.delete(DEFAULT_PROJECT, withdrawn)
    label(system, f" {asked(10)} ", first="another")
    label(system, asked(1), first=asked(3))
    told = [forget(system, user="user-3", dry_run=dry_run).labels for dry_run in (True, True, False)]
    assert told == [2, 2, 2], "a trial deletes nothing"
    assert [one.question for one in labels.page(system.context, Paging(None, 10)).data] == [asked(1)]
    assert forget(system, user="user-3").labels == 0
    assert not [place for place in places(system.settings.data, asked(10)) if "sqlite3" in place]


def test_runs_with_items_of_a_row_are_named_with_the_request_that_deletes_them(system: System):
    file = system.file(train=4, dev=2, test=2)
    record = system.context.file(file)
    first, second = list(rows_of(record, system.artifacts, system.stores.catalog).read([0, 1]))
    label(system, first.question)
    own = [{"item": {"question": text}} for text in ("another", first.question)]
    nested = [{"item": {"question": "q", "messages": [{"role": "user", "content": first.asked}]}}]
    runs = [
        ran(system, type="file_content", content=own),
        ran(system, type="file_id", id=file),
        ran(system, type="file_content", content=nested),
        ran(system, type="file_content", content=[{"item": {"question": second.question}}]),
        ran(
            system,
            type="file_content",
            content=[{"item": {"question": "q", "id": [1]}}, {"item": {"question": "q", "id": first.id}}],
        ),
    ]
    told = forget(system, file=file, rows=[first.id])
    assert [(one.run, one.file, one.items) for one in told.evals] == [
        (runs[0], None, [1]), (runs[1], file, [0]), (runs[2], None, [0])
    ], "an id means a row in the versions of its file alone"  # fmt: skip
    assert told.labels == 1
    named = told.evals[0]
    assert (named.remove.method, named.remove.path, named.remove.body) == (
        "DELETE", f"/v1/evals/{named.eval}/runs/{named.run}", None
    )  # fmt: skip
    for one in told.evals:
        evals.cancel(system.context, one.eval, one.run)
        system.stores.evals.delete_run(DEFAULT_PROJECT, one.eval, one.run)
    assert forget(system, file=file, rows=[first.id], dry_run=True).evals == []


def test_exports_of_versions_that_learned_from_a_row_are_named(system: System):
    formats = [ExportFormat.ADAPTER]
    wanted, _ = (
        system.stores.jobs.create(DEFAULT_PROJECT, ExportRequest(model=model, model_id="model-1", formats=formats))
        for model in ("expert@1", "expert@2")
    )
    learned = LearnedBy(model="expert@1", job="ftjob-1", state="promoted", served=True, rows=["row-1"])
    assert [(one.id, one.model, one.pushed) for one in exports_of(system.context, [learned])] == [
        (wanted.id, "expert@1", None)
    ]
    assert exports_of(system.context, []) == []
