"""Forms of training that take less memory: which settings agree, what they need, and that older steps keep their hashes."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.capabilities import Ability, Capabilities
from shared.contracts.distillation import Adapter
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import AdapterConfig, ModelRef, TrainParams, content_hash
from shared.plan.student_checks import problems

YES = Ability(ok=True)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"method": "full", "load_in_4bit": True}, "load_in_4bit"),
        ({"method": "full", "use_dora": True}, "use_dora"),
        ({"method": "full", "dtype": "bfloat16"}, "dtype"),
        ({"method": "full", "dtype": "bfloat16", "optim": "paged_adamw_8bit"}, "dtype"),
        ({"dtype": "bfloat16", "optim": "adamw_8bit"}, "dtype"),
        ({"optim": "sgd"}, "optim"),
        ({"use_dora": "yes"}, "use_dora"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(settings: dict[str, Any], param: str):
    with pytest.raises(ValidationError, match=param):
        Adapter.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "libraries", "whole"),
    [
        ({}, {}, False),
        ({"method": "full"}, {}, True),
        ({"use_dora": True}, {}, True),
        ({"load_in_4bit": True}, {"bitsandbytes": "load_in_4bit"}, False),
        ({"load_in_4bit": True, "optim": "paged_adamw_8bit"}, {"bitsandbytes": "load_in_4bit"}, False),
        ({"optim": "adamw_8bit"}, {"bitsandbytes": "optim"}, False),
        ({"method": "full", "dtype": "bfloat16", "optim": "adamw_8bit"}, {"torchao": "dtype"}, True),
    ],
)
def test_settings_say_what_they_need_and_what_is_published(
    settings: dict[str, Any], libraries: dict[str, str], whole: bool
):
    adapter = Adapter.model_validate(settings)
    assert (adapter.libraries, adapter.is_whole) == (libraries, whole)


def capable(**changes: Any) -> Capabilities:
    abilities = dict.fromkeys(("load", "train_lora", "train_full", "dpo", "search", "serve"), YES)
    known = {"base": "m", "identity": "i", "model_type": "llama", "architecture": "Llama", "libraries": {"torch": "2"}}
    return Capabilities.model_validate(known | abilities | changes)


def refused(adapter: dict[str, Any], capabilities: Capabilities) -> list[tuple[str, str | None]]:
    given = {"model": "m", "training_file": "f", "distillation": {"domain": "d", "adapter": adapter}}
    return [(one.code, one.param) for one in problems(capabilities, JobRequest.model_validate(given), 16)]


@pytest.mark.parametrize(
    ("adapter", "setting"),
    [
        ({"load_in_4bit": True}, "load_in_4bit"),
        ({"optim": "adamw_8bit"}, "optim"),
        ({"method": "full", "dtype": "bfloat16", "optim": "adamw_8bit"}, "dtype"),
    ],
)
def test_what_the_trainer_lacks_is_refused_when_a_job_is_posted(adapter: dict[str, Any], setting: str):
    assert refused(adapter, capable()) == [("library_missing", f"distillation.adapter.{setting}")]
    there = {"torch": "2", "bitsandbytes": "0.50", "torchao": "0.18"}
    assert refused(adapter, capable(libraries=there)) == []
    assert refused(adapter, capable(libraries={})) == [], "nothing is known of that trainer"
    broken = capable(libraries=there, train_4bit=Ability(ok=False, reason="no AVX2"))
    expected = [("student_unfit", "distillation.adapter.load_in_4bit")] if setting == "load_in_4bit" else []
    assert refused(adapter, broken) == expected


def test_steps_from_before_keep_their_hashes():
    adapter = AdapterConfig()
    assert adapter.model_dump(mode="json") == {"rank": 16, "alpha": 32, "targets": "all-linear", "max_length": 512}
    params = TrainParams(
        model=ModelRef(base="b", base_hash="0" * 64),
        adapter=adapter,
        epochs=1,
        learning_rate=1e-4,
        batch_size=8,
        seed=7,
    )
    changed = params.model_copy(update={"adapter": AdapterConfig(load_in_4bit=True)})
    assert content_hash(params.model_dump(mode="json")) != content_hash(changed.model_dump(mode="json"))
