"""What the documents name is there: files, commands and their options, routes, make targets; and nothing is left out."""

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from services.meteor.examples import EXAMPLES
from services.meteor.main import cli
from shared.contracts.data import LineError
from shared.contracts.jobs import JobRequest
from shared.importing.dataset import DataFile

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
COMMANDS: Any = typer.main.get_command(cli)
ROUTES: dict[str, dict[str, Any]] = json.loads((ROOT / "openapi.json").read_text())["paths"]
BY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
CALL = re.compile(r"(?:\bmeteor|-m services\.local) ((?:--?[a-z][\w-]* )*[a-z][^`\n|;)]*)")
ROUTE = re.compile(r"(?:\b((?:[A-Z]+\|)*(?:GET|POST|PATCH|DELETE|PUT)) )?(/v1/[\w{}@%./-]*)")
YOURS = {"receiver.py", "rows.jsonl", "labels.jsonl", "convert_hf_to_gguf.py"}  # files of the reader, or of llama.cpp
OF_PROVIDERS = ("/v1/batches",)  # what we ask, not what we answer
# Asked by OpenAI's clients or programs, and by no command: the same store under OpenAI's names, and other forms of a chat.
FOR_CLIENTS = re.compile(r"/v1/fine_tuning/|/v1/completions|/v1/responses|/healthz|/readyz")


@BY_PAGE
def test_links_to_files_exist(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@BY_PAGE
def test_links_to_headings_exist(page: Path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text()):
        if "://" not in target:
            assert anchor in anchors(page.parent / target if target else page), (
                f"{page.name} links to {target}#{anchor}"
            )


@BY_PAGE
def test_source_files_that_a_page_names_exist(page: Path):
    names = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|toml|yml|jsonl))`", page.read_text()))
    missing = [
        name for name in names - YOURS if not ((ROOT / name).exists() if "/" in name else name in source_files())
    ]
    assert not missing, f"{page.name} names {missing}"


@cache
def source_files() -> frozenset[str]:
    folders = ("services", "shared", "tests", "deploy", "examples", "docs")
    return frozenset(path.name for folder in folders for path in (ROOT / folder).rglob("*.*")) | {
        path.name for path in ROOT.iterdir()
    }


@cache
def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text()
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "adr"]
    missing = [page.name for page in pages if page.name != "README.md" and page.name not in index]
    assert not missing, f"docs/README.md does not name {missing}"


def test_decisions_are_numbered_one_after_the_other():
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/adr").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_jobs_that_are_shown_can_be_posted():
    text = "\n".join(page.read_text() for page in PAGES if page.name != "api.md")  # of whose examples long ones are cut
    blocks = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    jobs = [block for block in map(json.loads, blocks) if "distillation" in block]
    assert jobs
    for job in jobs:
        JobRequest.model_validate(job | {"training_file": "file-1"})


def leaves(group: Any, path: str = "") -> Iterator[str]:
    for word, command in group.commands.items():
        yield from leaves(command, f"{path}{word} ") if hasattr(command, "commands") else [f"{path}{word}"]


def options(command: Any) -> set[str]:
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


def complaint(line: str) -> str | None:
    """What is wrong with a command line without `meteor`; None: all of it is there. Capitals stand for whatever fits."""
    words, command, known = line.split(), COMMANDS, options(COMMANDS) | {"--help"}
    while words and hasattr(command, "commands"):
        name = words.pop(0).rstrip(".,:")
        if name == "--url":
            words.pop(0)
        elif not name.startswith("-") and not name.isupper():
            if name not in command.commands:
                return f"there is no command {name!r}"
            command = command.commands[name]
            known |= options(command)
    unknown = [word for word in re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(words)) if word not in known]
    return f"{command.name} has no option {unknown[0]}" if unknown else None


OTHERS = re.compile(r"\s*(helm|kubectl|oc|docker)\b")  # `helm install meteor` is no command of ours


def calls(page: Path) -> list[str]:
    """Command lines: in code, and in the first columns of the tables of docs/reference/cli.md, which leave `meteor` out."""
    text = page.read_text()
    code = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    lines = [line.replace("\\\n", " ") for block in code for line in block.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if not OTHERS.match(line)]
    shown = [call.split(" #")[0] for line in lines for call in CALL.findall(line)]
    return shown + (rows_of_cli_page() if page.name == "cli.md" else [])


def rows_of_cli_page() -> list[str]:
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/reference/cli.md").read_text(), re.MULTILINE)
    return [call for row in rows for call in re.findall(r"`([a-z][^`]*)`", row)]


@BY_PAGE
def test_commands_and_their_options_exist(page: Path):
    wrong = {call: said for call in calls(page) if (said := complaint(call))}
    assert not wrong


def test_a_wrong_command_is_found():
    assert complaint("jobs list --status running") is None
    assert complaint("jobs lst") == "there is no command 'lst'"
    assert complaint("jobs fork ID [--form PHASE]") == "fork has no option --form"
    assert len({call.split()[0] for page in PAGES for call in calls(page)}) > 15


def test_every_command_is_documented():
    named = {" ".join(re.findall(r"^[a-z -]+[a-z]", call)) for call in rows_of_cli_page()}
    missing = [leaf for leaf in leaves(COMMANDS) if not any(re.match(rf"{leaf}\b", call) for call in named)]
    assert sorted(missing) == ["jobs report", "jobs usage"]  # named in the rows of `report` and `usage`


def test_every_command_shows_an_example_that_fits_it():
    for leaf in leaves(COMMANDS):
        assert EXAMPLES[leaf].startswith(leaf)
        assert complaint(EXAMPLES[leaf].replace("...", "")) is None
    help_text = CliRunner().invoke(cli, ["jobs", "fork", "--help"], env={"COLUMNS": "200"}).output
    assert f"Example: meteor {EXAMPLES['jobs fork']}" in help_text


def is_route(methods: str, path: str) -> bool:
    """methods: as in "GET|DELETE", or empty. path: may be written with values in it, and may be a beginning."""
    parts = path.rstrip("./").split("/")
    for template, operations in ROUTES.items():
        own = template.split("/")
        fits = len(own) >= len(parts) and all(a == b or "{" in a for a, b in zip(own, parts, strict=False))
        if fits and (not methods or (len(own) == len(parts) and set(methods.lower().split("|")) <= set(operations))):
            return True
    return False


@BY_PAGE
def test_routes_exist(page: Path):
    wrong = [
        route for route in ROUTE.findall(page.read_text()) if not is_route(*route) and route[1] not in OF_PROVIDERS
    ]
    assert not wrong


def test_a_wrong_route_is_found():
    assert is_route("GET", "/v1/distillation/jobs/ftjob-1/report")
    assert not is_route("", "/v1/distillation/job")
    assert not is_route("DELETE", "/v1/distillation/jobs/ftjob-1/report")


def test_every_route_has_a_command():
    documented = set(re.findall(r"`([A-Z]+ /v1/[^`]+)`", (ROOT / "docs/reference/cli.md").read_text()))
    operations = {f"{method.upper()} {path}" for path, methods in ROUTES.items() for method in methods}
    missing = sorted(one for one in operations - documented if not FOR_CLIENTS.search(one))
    assert not missing, f"docs/reference/cli.md names no command for {missing}"


@BY_PAGE
def test_modules_and_make_targets_exist(page: Path):
    text = page.read_text()
    for module in re.findall(r"python -m ((?:tests|services|shared)[\w.]*\w)", text):
        assert importlib.util.find_spec(module), f"{page.name} names {module}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    code = re.findall(r"`(make [^`]+)`", text) + re.findall(r"^make .*$", text, re.MULTILINE)
    for target in re.findall(r"make ([a-z-]+)", "\n".join(code)):
        assert target in targets, f"{page.name} names `make {target}`"


SHAPES = re.findall(
    r"### (.+?)\n.*?```(?:json|csv)\n(.*?)```.*?```jsonl\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.S
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[0])
def test_the_files_of_the_page_on_data_become_its_rows(shape: tuple[str, str, str], tmp_path: Path):
    path = tmp_path / "file"
    path.write_text(shape[1])
    rows = list(DataFile.open(path).rows())
    assert [row.code for row in rows if isinstance(row, LineError)] == []
    made = [row.model_dump(mode="json", exclude_none=True, exclude={"item"}) for row in rows]
    expected = [json.loads(line) for line in shape[2].splitlines()]
    assert [row if "id" in want else {**row, "id": None} for row, want in zip(made, expected, strict=True)] == [
        want if "id" in want else {**want, "id": None} for want in expected
    ]


def test_the_page_on_data_shows_six_shapes():
    assert len(SHAPES) == 6
