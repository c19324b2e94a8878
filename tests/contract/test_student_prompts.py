"""A student whose chat template cannot be used is refused when a job is posted, before any teacher is asked."""

from pathlib import Path

import httpx
import pytest

from tests.contract.conftest import KEY, rows, running_api
from tests.fakes.chat_templates import CASES, TemplateCase, write_case


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (TemplateCase("", config={"chat_template": None}), "no_chat_template"),
        (TemplateCase("{{ raise_exception('only with tools') }}"), "bad_chat_template"),
        (CASES["system role raises"], None),
    ],
)
def test_what_a_chat_template_lacks_is_said_when_a_job_is_posted(case: TemplateCase, code: str | None, tmp_path: Path):
    base = write_case(tmp_path / "mine", case)
    with running_api(tmp_path / "data", METEOR_STUDENT_MODEL="mine", METEOR_STUDENT_PATH=str(base)) as api:
        http = httpx.Client(base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)
        stored = http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()
        job = {"model": "mine", "training_file": stored["id"], "distillation": {"domain": "sums"}}
        checked = http.post("/v1/distillation/jobs/check", json=job).json()
        problems = {problem["code"]: problem for problem in checked["errors"] if problem["param"] == "model"}
        assert set(problems) == ({code} if code else set())
        if code:
            assert "METEOR_STUDENT_TEMPLATE" in problems[code]["remedy"]
            refused = http.post("/v1/distillation/jobs", json=job)
            assert refused.status_code == 400
            assert code in refused.text
        else:
            assert any("chat template is adapted" in words for words in checked["checked"])
