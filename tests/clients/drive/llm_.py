"""llm: the command-line tool, with a model of its extra-openai-models.yaml."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from abilities import CITY_SCHEMA, KEY, MODEL, QUESTION, SHORT, URL, ability, of_schema, run, told

folder = Path(tempfile.mkdtemp())
(folder / "extra-openai-models.yaml").write_text(
    f"- model_id: ours\n  model_name: {json.dumps(MODEL)}\n  api_base: {URL}\n  api_key_name: ours\n  supports_schema: true\n  supports_tools: true\n"
    f"- model_id: gone\n  model_name: nobody\n  api_base: {URL}\n  api_key_name: ours\n"
)
TOOL = 'def weather(city: str) -> str:\n    "The weather of a city."\n    return "sun"\n'


def llm(*arguments: str) -> str:
    command = [sys.executable, "-m", "llm", "prompt", "--key", KEY, QUESTION, *arguments]
    done = subprocess.run(
        command, env=os.environ | {"LLM_USER_PATH": str(folder)}, capture_output=True, text=True, timeout=200
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


@ability("chat")
def _():
    told(llm("-m", "ours", "--no-stream", "-o", "max_tokens", str(SHORT)))


@ability("stream")
def _():
    told(llm("-m", "ours", "-o", "max_tokens", str(SHORT)))


@ability("schema")
def _():
    of_schema(json.loads(llm("-m", "ours", "--schema", json.dumps(CITY_SCHEMA))))


@ability("tools: auto")
def _():
    told(llm("-m", "ours", "--functions", TOOL, "--chain-limit", "3", "-o", "max_tokens", str(SHORT)))


@ability("errors")
def _():
    try:
        llm("-m", "gone")
    except RuntimeError as error:
        assert "nobody" in str(error), error
        return
    raise AssertionError("no error")


if __name__ == "__main__":
    run()
