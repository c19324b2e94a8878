"""The model card says what the report says, and what nobody knows."""

from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.jobs import parity
from services.orchestrator.jobs.card import card
from services.orchestrator.jobs.exports import licence_of
from shared.contracts.report import read_report
from shared.contracts.rows import ParitySample, StudentCompletion
from tests.fakes import reports

PARITY = {
    "prompts": 8,
    "merged": {"greedy_agreement": 1.0, "logit_difference_max": 2e-5, "logit_difference_mean": 1e-6},
    "served": {"greedy_agreement": 0.625},
}
MANIFEST: dict[str, Any] = {
    "model": "expert@3",
    "state": "promoted",
    "method": "lora",
    "base": {"name": "tiny", "sha256": "b" * 64},
    "domain": "shell commands",
    "data": {"filename": "rows.jsonl", "sha256": "d" * 64, "rows": 60, "splits": {"train": 40, "dev": 10, "test": 10}},
    "licences": {"base": None, "base_from": None},
    "parity": PARITY,
    "formats": {"adapter": {}},
}
REPORT = read_report(
    reports.REPORT
    | {
        "primary_metric": "exact_match",
        "verdict": {
            "beats_base": True,
            "beaten": [],
            "not_beaten": [],
            "words": "The final model beats the base on the test split.",
        },
        "table": [
            {
                "name": "base",
                "adapter": None,
                "n": 10,
                "metrics": {"exact_match": [0.1, 0.0, 0.4]},
                "gain_over_base": [0.0, 0.0, 0.0],
            },
            {
                "name": "final",
                "adapter": None,
                "n": 10,
                "metrics": {"exact_match": [0.6, 0.3, 0.8]},
                "gain_over_base": [0.5, 0.1, 0.8],
            },
        ],
        "decisions": [{"phase": "distill", "decision": "promoted", "gain_on_dev": [0.4, 0.1, 0.7]}],
    }
)


def test_results_data_parity_and_how_to_load_it():
    text = card(MANIFEST, REPORT, "expert-3")
    for part in (
        "# expert@3",
        "for the domain: shell commands",
        "| final | 10 | 0.600 [0.300, 0.800] | +0.500 [+0.100, +0.800] |",
        "| phase 1, distill | promoted | +0.400 [+0.100, +0.700] |",
        f"`rows.jsonl`, SHA-256 `{'d' * 64}`: 60 rows (train 40, dev 10, test 10)",
        "62% of the answers are the same",
        "Base model: unknown; ask who made it.",
        "library_name: peft",
        'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), "expert-3-adapter")',
    ):
        assert part in text, part
    assert "license:" not in text


@pytest.mark.parametrize("state", ["undecided", "rejected", "partial"])
def test_a_version_that_was_not_promoted_says_so(state: str):
    assert f"This version is **{state}**" in card(MANIFEST | {"state": state}, REPORT, "expert-3")


def test_what_is_not_known_any_more_is_called_so():
    text = card(MANIFEST | {"data": None, "domain": None, "method": "full"}, None, "expert-3")
    assert "All weights were trained" in text
    assert "nothing is known of what this version is worth" in text
    assert "The job and its file are not known any more." in text


def test_a_gguf_file_was_compared_with_nothing():
    text = card(MANIFEST | {"formats": {"merged": {}, "gguf": {}}}, REPORT, "expert-3")
    assert "The GGUF file was not compared with anything." in text
    assert "llama-cli -m expert-3-gguf/model.gguf" in text


def test_the_licence_of_a_base_comes_from_its_folder(tmp_path: Path):
    assert licence_of(None) == licence_of(tmp_path) == {"base": None, "base_from": None}
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: 'mit'\n---\n")
    assert licence_of(tmp_path)["base"] == "mit"
    (tmp_path / "meteor.json").write_text('{"licence": "Apache-2.0"}')
    assert licence_of(tmp_path) == {"base": "Apache-2.0", "base_from": "METEOR's catalogue"}


def said(name: str, same: bool = True, apart: float = 1e-5) -> ParitySample:
    return ParitySample(
        id=name, adapter=f"why\nAnswer: {name}", merged="m", same=same, tokens=3, logit_max=apart, logit_mean=apart
    )


def served(name: str, answer: str | None = None) -> StudentCompletion:
    return StudentCompletion(id=name, answer=answer or name, rationale="why", finish_reason="stop")


@pytest.mark.parametrize(
    ("merged", "engine", "fault"),
    [
        ([said("a"), said("b")], [served("a"), served("b", "other")], None),
        ([said("a"), said("b")], [served("a", "other"), served("b", "other")], "the served model differs"),
        ([said("a", same=False), said("b")], [served("a"), served("b")], "the merged model differs"),
        ([said("a", apart=0.06), said("b")], [served("a"), served("b")], "the merged model differs"),
    ],
)
def test_parity_demands_what_each_side_can_keep(
    merged: list[ParitySample], engine: list[StudentCompletion], fault: str | None
):
    compared = parity.compare(merged, engine)
    if fault is None:
        parity.check(compared)
        assert compared["served"]["greedy_agreement"] == 0.5
    else:
        with pytest.raises(parity.ParityFailed, match=fault):
            parity.check(compared)
