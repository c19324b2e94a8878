"""/ and /ui: the dashboard's document and files, by their headers."""

import re

import httpx
import pytest

from tests.contract.conftest import RunningApi

PAGES = ("/", "/ui", "/ui/", "/ui/jobs/ftjob-1?tab=events", "/ui/no/such/view")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
def test_every_path_answers_the_document_and_needs_no_key(api: RunningApi, path: str, accept: str):
    answer = httpx.get(f"{api.url}{path}", headers={"accept": accept}, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["script-src"] == "'self'"
    assert re.fullmatch(r"'self' 'sha256-[^' ]+'", policy["style-src"])
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "svelte-trusted-html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    again = httpx.get(f"{api.url}{path}", headers={"if-none-match": answer.headers["etag"]}, trust_env=False)
    assert (again.status_code, again.content) == (304, b"")


def test_the_files_of_the_document_are_kept_for_a_year(api: RunningApi):
    page = httpx.get(f"{api.url}/", trust_env=False).text
    names = [name for name in re.findall(r'(?:src|href)="([^"]*)"', page) if name != "/docs"]
    assert names
    kinds = set()
    for name in names:
        answer = httpx.get(f"{api.url}{name}", trust_env=False)
        assert answer.status_code == 200, name
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        kinds.add(answer.headers["content-type"].split(";")[0])
    assert {"text/javascript", "text/css", "image/svg+xml"} <= kinds


@pytest.mark.parametrize("name", ["none.js", "..%2Findex.html", "%2e%2e%2froutes.py"])
def test_a_file_that_is_not_built_is_an_error(api: RunningApi, name: str):
    answer = httpx.get(f"{api.url}/ui/assets/{name}", trust_env=False)
    if answer.headers["content-type"].startswith("application/json"):
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    else:  # the slash makes another path, which shows no view
        assert "<title>METEOR</title>" in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/ui/jobs"])
def test_the_pages_are_only_read(api: RunningApi, method: str, path: str):
    refused = httpx.request(method, f"{api.url}{path}", trust_env=False)
    assert (refused.status_code, refused.json()["error"]["type"]) == (405, "invalid_request_error")


def test_the_pages_are_no_part_of_the_document(api: RunningApi):
    paths = httpx.get(f"{api.url}/openapi.json", trust_env=False, timeout=60).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/ui")]
