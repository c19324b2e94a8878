"""openapi-python-client: a client that is generated from our own openapi.json, and used."""

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

from abilities import KEY, MODEL, QUESTION, SHORT, URL, ability, run

folder = Path(tempfile.mkdtemp())
SERVER = URL.removesuffix("/v1")


@ability("generate")
def _():
    import httpx

    document = folder / "openapi.json"
    document.write_bytes(httpx.get(f"{SERVER}/openapi.json", headers={"authorization": f"Bearer {KEY}"}).content)
    (folder / "config.yml").write_text("post_hooks: []\npackage_name_override: made\nproject_name_override: made\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(document), "--meta", "none"]
    done = subprocess.run(
        [*command, "--config", str(folder / "config.yml"), "--output-path", str(folder / "made")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "WARNING" not in told, told
    assert "Warning" not in told, told
    sys.path.insert(0, str(folder))


def client():
    return importlib.import_module("made.client").AuthenticatedClient(base_url=SERVER, token=KEY)


def of(route, model):
    return importlib.import_module(f"made.api.{route}"), importlib.import_module("made.models").__dict__.get(model)


@ability("models")
def _():
    listed, _ = of("models.list_models", "")
    assert MODEL in [model.id for model in listed.sync(client=client()).data]


@ability("chat")
def _():
    create, request = of("chat.create_chat_completion", "ChatRequest")
    body = request.from_dict({"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": SHORT})
    answer = create.sync_detailed(client=client(), body=body)
    assert answer.status_code == 200, answer.content


@ability("files")
def _():
    listed, _ = of("files.list_files", "")
    assert listed.sync(client=client(), limit=5).object_ == "list"


@ability("fine-tuning")
def _():
    listed, _ = of("fine_tuning.fine_tuning_list_jobs", "")
    assert listed.sync(client=client()).object_ == "list"


if __name__ == "__main__":
    run()
