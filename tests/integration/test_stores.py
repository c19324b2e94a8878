"""Jobs, files and models in the durable state, on SQLite and on PostgreSQL; the steps have a file of their own."""

import math

import pytest

from shared.contracts.errors import Conflict, NotFound, UserError
from shared.contracts.experiments import EXPERIMENT
from shared.contracts.jobs import JobStatus
from shared.contracts.steps import ModelRef
from shared.jobs.schema import Stores, open_stores
from shared.jobs.states import JOB_MOVES, StepState
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.store_moves import LEASE_S, OOPS, job_row, running, step_of, step_row

# jobs


def test_a_job_is_created_queued_with_an_event(stores: Stores, job):
    assert job.status == JobStatus.QUEUED
    assert job.request["distillation"]["domain"] == "shell"
    (event,) = stores.jobs.events(job.id)
    assert (event.type, event.data) == ("status", {"status": "queued"})


def test_another_projects_job_is_absent(stores: Stores, job):
    assert stores.jobs.get(job.id, "proj_other") is None
    assert job_row(stores, job.id) == stores.jobs.get(job.id, DEFAULT_PROJECT)
    assert stores.jobs.get("ftjob-none") is None


def test_pages_run_newest_first_and_refuse_an_unknown_cursor(stores: Stores, new_job):
    ids = [new_job(stores).id for _ in range(5)][::-1]
    first, more = stores.jobs.page(DEFAULT_PROJECT, None, 2)
    assert ([row.id for row in first], more) == (ids[:2], True)
    rest, more = stores.jobs.page(DEFAULT_PROJECT, ids[1], 3)
    assert ([row.id for row in rest], more) == (ids[2:], False)
    with pytest.raises(UserError, match="to continue after"):
        stores.jobs.page(DEFAULT_PROJECT, "ftjob-none", 2)


def test_a_cursor_holds_when_its_job_changed_its_status(stores: Stores, new_job):
    old, new = new_job(stores), new_job(stores)
    stores.jobs.cancel(new)
    rows, more = stores.jobs.page(DEFAULT_PROJECT, new.id, 5, status="queued")
    assert ([row.id for row in rows], more) == ([old.id], False)


def test_jobs_are_found_by_metadata(stores: Stores, new_job):
    wanted = new_job(stores, metadata={"team": "a", "run": "1"})
    new_job(stores, metadata={"team": "b"})
    rows, _ = stores.jobs.page(DEFAULT_PROJECT, None, 5, metadata={"team": "a", "run": "1"})
    assert [row.id for row in rows] == [wanted.id]


def test_experiments_are_found_in_their_project_newest_first(stores: Stores, new_job):
    for metadata in ({}, {EXPERIMENT: "exp-1"}, {EXPERIMENT: "exp-2"}, {EXPERIMENT: "exp-1"}):
        new_job(stores, metadata=metadata)
    page = stores.overview.experiments
    assert page(DEFAULT_PROJECT, None, 5) == (["exp-2", "exp-1"], False)
    assert page(DEFAULT_PROJECT, None, 1) == (["exp-2"], True)
    assert page(DEFAULT_PROJECT, "exp-2", 1) == (["exp-1"], False)
    assert page("proj_other", None, 5) == ([], False)
    with pytest.raises(UserError, match="exp-3"):
        page(DEFAULT_PROJECT, "exp-3", 5)


def test_the_oldest_free_job_is_claimed_once(stores: Stores, new_job):
    first, second = new_job(stores), new_job(stores)
    assert running(stores, first).status == JobStatus.RUNNING
    assert running(stores, second).attempt == 1
    assert stores.jobs.claim("o2", LEASE_S) is None
    assert stores.overview.count_by_status() == {"running": 2}


@pytest.mark.parametrize("how", ["released", "expired"])
def test_a_lost_job_is_taken_up_and_its_former_holder_refused(stores: Stores, job, how: str):
    old = running(stores, job)
    if how == "released":
        stores.jobs.release(old)
    else:
        assert stores.jobs.look([old], -1) == {(old.id, old.attempt): JobStatus.RUNNING}
    new = running(stores, job)
    assert (new.attempt, new.started_at) == (2, old.started_at)
    assert stores.jobs.look([old], LEASE_S) == {}
    stores.jobs.note(old, phase="distill")
    assert not stores.jobs.end(old, JobStatus.SUCCEEDED)
    row = job_row(stores, job.id)
    assert (row.phase, row.status) == (None, JobStatus.RUNNING)
    assert stores.jobs.events(job.id)[-1].message.startswith("job taken up again")


def test_notes_and_the_end_of_a_job(stores: Stores, job):
    row = running(stores, job)
    stores.jobs.note(row, phase="iterate", progress={"percent": 50.0}, evaluation={"loss": math.nan, "n": [1.5]})
    assert stores.jobs.end(row, JobStatus.SUCCEEDED, fine_tuned_model="expert", trained_tokens=7)
    ended = job_row(stores, job.id)
    assert (ended.status, ended.phase, ended.fine_tuned_model) == ("succeeded", "iterate", "expert")
    assert ended.evaluation == {"loss": None, "n": [1.5]}
    assert ended.finished_at
    assert ended.lease_owner is None
    stores.jobs.note(row, phase="late")
    assert not stores.jobs.end(row, JobStatus.FAILED, OOPS)
    assert job_row(stores, job.id).phase == "iterate"


def test_a_failed_job_says_why(stores: Stores, job):
    assert stores.jobs.end(running(stores, job), JobStatus.FAILED, OOPS)
    row = job_row(stores, job.id)
    assert (row.status, row.error.code) == ("failed", "oops")
    assert stores.jobs.events(job.id)[-1].level == "error"


def test_cancelling_a_waiting_job_ends_it_and_its_steps(stores: Stores, job):
    step = step_of(stores, job)
    assert stores.jobs.cancel(job).status == JobStatus.CANCELLED
    assert step_row(stores, step.id).state == StepState.CANCELLED
    assert stores.jobs.claim("o1", LEASE_S) is None
    with pytest.raises(Conflict):
        stores.jobs.cancel(job)


def test_a_cancelled_running_job_never_succeeds(stores: Stores, job):
    row = running(stores, job)
    assert stores.jobs.cancel(row).status == JobStatus.CANCELLING
    assert stores.jobs.cancel(row).status == JobStatus.CANCELLING
    assert stores.jobs.look([row], LEASE_S) == {(row.id, row.attempt): JobStatus.CANCELLING}
    assert not stores.jobs.end(row, JobStatus.SUCCEEDED)
    assert stores.jobs.end(row, JobStatus.CANCELLED)
    assert job_row(stores, job.id).finished_at


def test_final_statuses_have_no_way_out():
    assert not any(JOB_MOVES[status] for status in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED))
    assert set(JOB_MOVES) == set(JobStatus)


def test_events_page_both_ways_and_are_said_once(stores: Stores, job):
    for n in range(3):
        stores.jobs.add_event(job, f"round {n}", data={"n": n})
    stores.jobs.add_event(job, "round 2", once=True)
    everything = stores.jobs.events(job.id)
    assert [event.message for event in everything][1:] == ["round 0", "round 1", "round 2"]
    assert stores.jobs.events(job.id, after=everything[1].sequence) == everything[2:]
    assert stores.jobs.events(job.id, newest_first=True, limit=2) == everything[:1:-1]
    assert stores.jobs.events(job.id, after=everything[1].sequence, newest_first=True) == everything[:1]


def test_workers_are_live_while_they_beat(stores: Stores):
    for slots in (2, 3):
        stores.jobs.heartbeat("judge@a:1", DEFAULT_PROJECT, "judge", "judge", slots)
    (row,) = stores.jobs.live_workers(5)
    assert (row.queue, row.slots) == ("judge", 3)
    assert stores.jobs.live_workers(-1) == []
    stores.jobs.heartbeat("judge@a:1", DEFAULT_PROJECT, "judge", "judge", 3, stopping=True)
    assert stores.jobs.live_workers(5) == []


# files and models


def test_files_are_found_paged_and_deleted(stores: Stores, job):
    file = stores.catalog.file(DEFAULT_PROJECT, job.file_id)
    with pytest.raises(NotFound):
        stores.catalog.file("proj_other", file.id)
    with pytest.raises(Conflict, match="needed by job"):
        stores.catalog.delete_file(DEFAULT_PROJECT, file.id)
    assert stores.catalog.keeps(file.sha256)
    stores.jobs.cancel(job)
    stores.catalog.delete_file(DEFAULT_PROJECT, file.id)
    assert not stores.catalog.keeps(file.sha256)
    with pytest.raises(NotFound):
        stores.catalog.file(DEFAULT_PROJECT, file.id)
    assert stores.catalog.file_page(DEFAULT_PROJECT, None, 5) == ([], False)
    with pytest.raises(UserError):
        stores.catalog.file_page(DEFAULT_PROJECT, "file-none", 5)


def test_an_alias_moves_only_when_it_is_told_to(stores: Stores, job):
    catalog = stores.catalog
    refs = [ModelRef(base="tiny", base_hash="0" * 64, adapter=letter * 64) for letter in "ab"]
    first = catalog.publish(DEFAULT_PROJECT, "expert", refs[0], job.id, "promoted")
    assert catalog.publish(DEFAULT_PROJECT, "expert", refs[0], job.id, "promoted").id == first.id
    second = catalog.publish(DEFAULT_PROJECT, "expert", refs[1], job.id, "rejected")
    assert (first.version, second.version) == (1, 2)
    with pytest.raises(NotFound):
        catalog.resolve(DEFAULT_PROJECT, "expert")
    catalog.serve(DEFAULT_PROJECT, first)
    assert catalog.resolve(DEFAULT_PROJECT, "expert").id == first.id
    assert catalog.resolve(DEFAULT_PROJECT, "expert@2").id == second.id
    catalog.serve(DEFAULT_PROJECT, second)
    assert catalog.served(DEFAULT_PROJECT, "expert") == second
    assert [(row.version, served) for row, served in catalog.models(DEFAULT_PROJECT)] == [(2, True), (1, False)]
    assert catalog.models("proj_other") == []


@pytest.mark.parametrize("name", ["", "expert@", "expert@3", "expert@-1", "expert@1e9", "../a", "a" * 64, "expert@①"])
def test_only_published_names_resolve(stores: Stores, job, name: str):
    ref = ModelRef(base="tiny", base_hash="0" * 64, adapter="a" * 64)
    stores.catalog.serve(DEFAULT_PROJECT, stores.catalog.publish(DEFAULT_PROJECT, "expert", ref, job.id, "promoted"))
    with pytest.raises(NotFound):
        stores.catalog.resolve(DEFAULT_PROJECT, name)


def test_opening_twice_keeps_everything(database_url: str, stores: Stores, job):
    assert job_row(open_stores(database_url), job.id).id == job.id
