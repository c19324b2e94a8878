"""`make clients`: real clients against a running METEOR, each in an environment of its own, and a table of what they can do."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.clients.environments import LeftOut, locked, node_of, node_versions, python_of
from tests.clients.system import Server, running_system
from tests.clients.table import DOCUMENT, Tried, document, on_screen

HERE = Path(__file__).parent
DRIVE_S = 900
ROWS = 60


class Client(NamedTuple):
    """package: whose version is told. driver: in drive/ or node/; environment: the lockfile's name, for clients in Python."""

    package: str
    driver: str
    environment: str | None = None


CLIENTS = {
    "openai-python": Client("openai", "openai_python.py", "openai"),
    "litellm": Client("litellm", "litellm_.py", "litellm"),
    "langchain": Client("langchain-openai", "langchain_.py", "langchain"),
    "llama-index": Client("llama-index-llms-openai-like", "llama_index_.py", "llama-index"),
    "instructor": Client("instructor", "instructor_.py", "instructor"),
    "pydantic-ai": Client("pydantic-ai-slim", "pydantic_ai_.py", "pydantic-ai"),
    "openai-agents": Client("openai-agents", "openai_agents.py", "openai-agents"),
    "dspy": Client("dspy", "dspy_.py", "dspy"),
    "haystack": Client("haystack-ai", "haystack_.py", "haystack"),
    "smolagents": Client("smolagents", "smolagents_.py", "smolagents"),
    "inspect-ai": Client("inspect-ai", "inspect_ai_.py", "inspect-ai"),
    "llm": Client("llm", "llm_.py", "llm"),
    "openapi-python-client": Client(
        "openapi-python-client", "openapi_python_client_.py", "openapi-python-client"
    ),
    "openai-node": Client("openai", "openai_node.mjs"),
    "ai-sdk": Client("ai", "ai_sdk.mjs"),
}  # fmt: skip


def main() -> int:
    """Exit code 1 where an ability failed; a client that cannot be installed is left out and said."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--only", action="append", choices=CLIENTS, help="this client (may be repeated)")
    parser.add_argument("--url", help="of a METEOR that runs already, without /v1; else one is started")
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", help="of the METEOR at --url")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name} anew, unless --only")
    given = parser.parse_args()
    if given.url and not given.model:
        parser.error("--url needs --model")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meteor-rows-")))
        ready = {name: _prepared(CLIENTS[name]) for name in given.only or CLIENTS}
        server = Server(given.url, given.key, given.model) if given.url else stack.enter_context(running_system())
        tried = [_try(name, how, server, scratch) for name, how in ready.items()]
    print(on_screen(tried))
    if given.write and not given.only:
        DOCUMENT.write_text(document(tried, server.model, datetime.now(UTC).date()))
        print(f"wrote {DOCUMENT}")
    return 1 if any(one.failed for one in tried) else 0


def _prepared(client: Client) -> list[str] | LeftOut:
    """The command of a client's driver, or why there is none."""
    try:
        if client.environment is not None:
            return [str(python_of(client.environment)), "-W", "ignore", str(HERE / "drive" / client.driver)]
        node, folder = node_of()
        return [node, str(folder / client.driver)]
    except LeftOut as reason:
        return reason


def _try(name: str, how: list[str] | LeftOut, server: Server, scratch: Path) -> Tried:
    client = CLIENTS[name]
    versions = locked(client.environment) if client.environment else node_versions()
    tried = Tried(name, client.package, versions.get(client.package, "?"))
    if isinstance(how, LeftOut):
        tried.left_out = str(how)
        return tried
    print(f"{name} {tried.version} ...", file=sys.stderr, flush=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("METEOR_", "OPENAI_"))}
    environment = kept | {
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_KEY": server.key,
        "METEOR_MODEL": server.model,
        "METEOR_ROWS": str(_rows(scratch, name)),
        "NO_PROXY": "127.0.0.1,localhost",
        "HOME": str(scratch),  # what a client keeps of its own stays apart
    }
    try:
        done = subprocess.run(how, env=environment, capture_output=True, text=True, timeout=DRIVE_S, cwd=scratch)
    except subprocess.TimeoutExpired:
        tried.said = {"chat": f"it was not done within {DRIVE_S} s"}
        return tried
    try:
        tried.said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        tried.said = {"chat": f"it ended with {done.returncode}: {' '.join(done.stderr.split())[-600:]}"}
    return tried


def _rows(folder: Path, name: str) -> Path:
    """Rows that no other client has, so that nothing is taken over."""
    path = folder / f"{name}.jsonl"
    questions = ({"question": f"{name}: what is {n} plus {n}?", "reference": str(2 * n)} for n in range(ROWS))
    path.write_text("".join(json.dumps(row) + "\n" for row in questions))
    return path


if __name__ == "__main__":
    sys.exit(main())
