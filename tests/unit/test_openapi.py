"""The committed document and reference are the ones that the routes make, and the page needs nobody's server."""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from services.api.app import create_app
from services.api.openapi import generated
from services.api.openapi_document import TAGS, operations
from services.api.settings import ApiSettings
from shared.platform.settings import PlatformSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(ApiSettings(), PlatformSettings())


def test_the_committed_files_are_up_to_date(app: FastAPI):
    old = [name for name, text in generated(app.openapi()).items() if (ROOT / name).read_text() != text]
    assert not old, (
        f"{old} are not what the routes say now; `make openapi` writes them anew (python -m services.api.openapi)"
    )


def test_operations_have_names_of_their_own_and_a_described_tag(app: FastAPI):
    names = Counter(operation["operationId"] for _, _, operation in operations(app.openapi()))
    assert names.most_common(1)[0][1] == 1
    assert all(re.fullmatch("[a-z_]{3,40}", name) for name in names)
    for path, _, operation in operations(app.openapi()):
        assert [tag for tag in operation["tags"] if tag in TAGS] == operation["tags"], (
            f"{path}: describe its tag in TAGS"
        )


def test_refusals_have_our_form_everywhere(app: FastAPI):
    made = app.openapi()
    assert "ValidationError" not in made["components"]["schemas"]
    for path, method, operation in operations(made):
        refusals = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        if path.startswith("/v1/"):
            assert {"401", "403", "503"} <= set(refusals), (method, path)
            assert operation["security"] == [{"bearer": []}]
        for answer in refusals.values():
            body = made["components"]["responses"][answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            assert "$ref" in body["content"]["application/json"]["schema"], (method, path)


def test_every_schema_is_one(app: FastAPI):
    for schema in app.openapi()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_what_may_be_null_has_no_object_as_its_default(app: FastAPI):
    """Generators of clients drop a class with such a field, and all routes that use it."""

    def wrong(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, dict):
            nullable = {"type": "null"} in schema.get("anyOf", [])
            if nullable and isinstance(schema.get("default"), dict | list):
                yield path
            for name, inner in schema.items():
                yield from wrong(inner, f"{path}/{name}")
        elif isinstance(schema, list):
            for number, inner in enumerate(schema):
                yield from wrong(inner, f"{path}/{number}")

    assert [*wrong(app.openapi(), "")] == []


def test_no_two_schemas_have_one_title(app: FastAPI):
    """Generators of clients name their classes by them, and drop the second one with all routes that use it."""
    titles = Counter(schema.get("title", name) for name, schema in app.openapi()["components"]["schemas"].items())
    assert [title for title, count in titles.items() if count > 1] == []


def test_bounds_have_json_schemas_names(app: FastAPI):
    """Those of numbers with a check of our own beside, which pydantic writes as Python has them."""
    schemas = app.openapi()["components"]["schemas"]
    number, word = schemas["Hyperparameters"]["properties"]["n_epochs"]["anyOf"]
    assert (number, word["enum"]) == ({"type": "number", "exclusiveMinimum": 0, "maximum": 100}, ["auto"])
    assert not re.search(r'"(gt|ge|lt|le)": ', json.dumps(schemas))


def test_what_may_be_one_text_or_many_is_both_in_the_document(app: FastAPI):
    stop = app.openapi()["components"]["schemas"]["ChatRequest"]["properties"]["stop"]["anyOf"]
    assert [each["type"] for each in stop] == ["string", "array", "null"]


async def test_the_page_is_complete_and_loads_nothing(app: FastAPI):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer, served = await client.get("/docs"), await client.get("/openapi.json")
    assert served.json() == app.openapi()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()}'" in policy
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=\"(?!#)", answer.text)
    targets = set(re.findall(r'id="([^"]*)"', answer.text))
    assert {unescape(name) for name in re.findall(r'href="#([^"]*)"', answer.text)} <= targets
    for path, method, _ in operations(app.openapi()):
        assert f">{method.upper()} {path}</h3>" in answer.text
