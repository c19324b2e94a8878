"""What became of each example: GET .../jobs/{id}/outcomes, read from the files of the job's steps."""

from typing import Any

import httpx
import pytest

from tests.browser.sample_jobs import finished, posted, uploaded
from tests.browser.sample_report import HOSTILE
from tests.browser.sample_steps import traced
from tests.contract.conftest import RunningApi


@pytest.fixture
def job(api: RunningApi, http: httpx.Client) -> str:
    return traced(api, http, uploaded(http))


def asked(http: httpx.Client, job: str, **query: Any) -> list[dict[str, Any]]:
    path = f"/v1/distillation/jobs/{job}/outcomes"
    return http.get(path, params={"limit": 100} | query).raise_for_status().json()["data"]


def test_phase_1_and_what_it_dropped(http: httpx.Client, job: str):
    dropped = [one for one in asked(http, job, happened="dropped") if one["dropped"][0]["phase"] == "distill"]
    assert [one["dropped"][0]["why"] for one in dropped] == ["refused", "cut_off", "checks"]
    assert all(one["learned"] == [] for one in dropped)
    learned = asked(http, job, happened="learned")
    assert [one["learned"] for one in learned].count(["distill/train"]) == 13


def test_tries_by_round_and_number(http: httpx.Client, job: str):
    failed = asked(http, job, happened="failed", round=2)
    assert [[(one["round"], one["attempt"], one["passed"]) for one in row["tries"]] for row in failed] == [
        [(2, 1, False), (2, 2, False), (2, 3, False)]
    ]
    third = asked(http, job, happened="passed", attempt=3)
    assert [row["tries"][-1]["passed"] for row in third] == [True, True]
    assert len(asked(http, job, round=1)) == 6
    # a row is learned by each training that read it: the second round's goes on from the first's rows
    assert third[0]["learned"] == ["iterate/1/train", "iterate/2/train"]


def test_phase_3_says_which_pairs_were_of_no_use(http: httpx.Client, job: str):
    dropped = [row for row in asked(http, job, happened="dropped") if row["dropped"][0]["phase"] == "evolve"]
    assert {row["dropped"][0]["why"] for row in dropped} == {"identical"}
    assert len(dropped) == 4


def test_answers_scores_and_the_judge(http: httpx.Client, job: str):
    measured = asked(http, job, happened="measured", split="test")
    assert len(measured) == 40
    assert [one["student"] for one in measured[0]["measured"]] == ["base", "distill", "iterate", "evolve"]
    assert measured[1]["measured"][0]["scores"] == {"chrf": 0.31, "string_check": 0.0}
    turned = asked(http, job, happened="turned")
    assert turned
    for row in turned:
        (judged,) = row["judged"]
        assert (judged["winner"], judged["turned"], judged["over"]) == ("tie", True, "final-over-base")
        assert {judged["first"], judged["second"]} == {
            one["answer"] for one in row["measured"] if one["student"] in ("base", "evolve")
        }


def test_pages_search_and_order(http: httpx.Client, job: str):
    path = f"/v1/fine_tuning/jobs/{job}/outcomes"
    first = http.get(path, params={"limit": 250}).json()
    assert first["error"]["param"] == "limit"
    seen, after = [], None
    while True:
        page = http.get(path, params={"limit": 90} | ({"after": after} if after else {})).json()
        seen += [row["id"] for row in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == [f"row-{n}" for n in range(1, 313)]
    assert [row["question"] for row in asked(http, job, search="IS 17 PLUS")] == ["What is 17 plus 17?"]
    longest = [row["characters"] for row in asked(http, job, order="longest")]
    assert longest == sorted(longest, reverse=True)
    assert longest[0] > longest[-1]
    assert http.get(path, params={"after": "gone"}).json()["error"]["code"] == "unknown_cursor"
    assert http.get(path, params={"happened": "exploded"}).status_code == 400


def test_a_job_without_steps_has_nothing_to_tell_yet(api: RunningApi, http: httpx.Client):
    job = posted(http, uploaded(http), "fresh")
    rows = asked(http, job)
    assert len(rows) == 100
    assert all(not row["tries"] and not row["learned"] and not row["measured"] for row in rows)


def test_results_that_have_expired_are_told(api: RunningApi, http: httpx.Client):
    job = finished(api, http, uploaded(http), "old")  # its steps have no results
    answer = http.get(f"/v1/distillation/jobs/{job}/outcomes")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "lineage_expired")


def test_the_chain_of_an_example(http: httpx.Client, job: str):
    (row,) = asked(http, job, happened="failed", round=1)
    told = http.get(f"/v1/distillation/jobs/{job}/examples/{row['id']}/lineage").json()
    assert [link["step"] for link in told["chain"]] == [
        f"iterate/1/try-{n}/{what}/0" for n in (1, 2, 3) for what in ("answers", "verdicts")
    ]
    assert HOSTILE in told["chain"][1]["made"]["critique"]
