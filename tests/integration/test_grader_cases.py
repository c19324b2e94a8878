"""Every kind of grader on right, wrong, malformed, hostile and slow answers, as a step of a job runs it: bounded processes, the sandbox, a
user's service and the gateway with a strong model behind it are real."""

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import TypeAdapter

from shared.contracts.grader_kinds import Grader, VerifyingGrader, VerifyingKind, name_of
from shared.grading import bounded, endpoint
from shared.grading.attempt import Attempt, Graded
from shared.grading.graders import Graders
from shared.platform.public_addresses import networks_of
from shared.sandbox.confine import missing
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.grader_package import install
from tests.fakes.grader_service import Service, running_service
from tests.fakes.start import start_teacher
from tests.integration.grader_cases import SERVED, SORTS, TABLE, Case, Sort

BOUNDED = ("number", "json_equal", "json_schema")  # kinds without a time of their own
MODELS = ("score_model", "label_model")
CODE = ("code_tests", "python")
LIMITS = {"METEOR_STRONG_ATTEMPTS": "1", "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT8S", "METEOR_STRONG_DEADLINE": "PT8S"}


class Surroundings(NamedTuple):
    """What graders need besides their settings. opened: graders by their settings, each with a process that serves many cases."""

    shop: Path
    service: Service
    gateway: Gateway
    opened: dict[str, Graders]


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    folder, packages = tmp_path_factory.mktemp("cases"), install(tmp_path_factory.mktemp("packages"))
    with sqlite3.connect(folder / "shop.sqlite") as connection:
        connection.executescript(
            "CREATE TABLE item (name TEXT, price REAL);"
            "INSERT INTO item VALUES ('pen', 1.5), ('ink', 4.0), ('pad', 2.25), ('cap', 1.5);"
        )
    connection.close()
    with (
        pytest.MonkeyPatch.context() as patch,
        running_service() as service,
        start_teacher(module="tests.fakes.echo") as teacher,
        running_gateway(teacher, folder, **LIMITS) as gateway,
    ):
        patch.syspath_prepend(packages)
        patch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
        patch.setenv("METEOR_INTERNAL_TOKEN", "which no package sees")
        made = Surroundings(folder / "shop.sqlite", service, gateway, {})
        yield made
        for graders in made.opened.values():
            graders.__exit__(None, None, None)


def spec_of(kind: str, case: Case, url: str) -> Grader | VerifyingGrader:
    settings, _ = TABLE[kind]
    if settings is None:
        return Grader(kind)
    given = {"type": kind.partition("/")[0]} | settings | dict(case.spec)
    return TypeAdapter[Any](VerifyingKind).validate_python(given | ({"url": url} if kind == "endpoint" else {}))


async def graded(around: Surroundings, kind: str, case: Case) -> Graded:
    spec = spec_of(kind, case, around.service.url)
    verifying = [] if isinstance(spec, Grader) else [spec]
    async with around.gateway.client() as client:
        if kind in MODELS:
            with Graders(verifying, gateway=client) as graders:
                return (await graders.score_all(name_of(spec), [Attempt.of(case.answer, case.reference)]))[0]
        key = json.dumps([one.model_dump(mode="json") for one in verifying])
        if key not in around.opened:
            files, here = {"shop": around.shop}, networks_of("127.0.0.1/32")
            around.opened[key] = Graders(verifying, files, sandbox=True, networks=here, plugins=["levenshtein"])
        return (await around.opened[key].score_all(name_of(spec), [Attempt.of(case.answer, case.reference)]))[0]


ALL = [(kind, sort, case) for kind, (_, by_sort) in TABLE.items() for sort in SORTS for case in by_sort[sort]]


@pytest.mark.parametrize(
    ("kind", "sort", "case"), ALL, ids=[f"{kind}-{sort}-{place}" for place, (kind, sort, _) in enumerate(ALL)]
)
async def test_each_kind_on_each_sort_of_answer(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, kind: str, sort: Sort, case: Case
):
    if kind in CODE and missing():
        pytest.skip(f"this machine lacks {missing()}")
    monkeypatch.setattr(endpoint, "FIRST_PAUSE_S", 0.01)
    if sort == "slow" and kind in BOUNDED:
        monkeypatch.setattr(bounded, "SECONDS", 1.5)
    before = around.shop.read_bytes()
    around.service.answers = [SERVED[case.answer]] if case.answer in SERVED else []
    around.service.slow_s = 1.0 if sort == "slow" else 0.0
    if sort == "slow" and kind in MODELS:
        around.gateway.teacher.latency(60.0)  # the gateway waits for 8 s
    try:
        if case.raises is not None:
            with pytest.raises(case.raises, match=case.says):
                await graded(around, kind, case)
            return
        result = await graded(around, kind, case)
    finally:
        around.gateway.teacher.latency(0.0)
    assert (round(result.score, 6), result.why) == (case.score, case.why), result
    assert re.search(case.says, result.words), result.words
    assert around.shop.read_bytes() == before


def test_the_table_has_every_kind_and_every_sort():
    kinds = {kind.model_fields["type"].annotation for kind in get_args(VerifyingGrader)}
    wanted = {get_args(literal)[0] for literal in kinds} | {grader.value for grader in Grader}
    assert wanted <= {kind.partition("/")[0] for kind in TABLE}
    assert all(by_sort[sort] for _, by_sort in TABLE.values() for sort in SORTS)
