"""The chat template of a base as text: which variables and roles it knows."""

import json
import re
from functools import lru_cache
from pathlib import Path

LONGEST = 2 * 2**20  # bytes of a file with a template


@lru_cache(maxsize=64)
def template_text(folder: Path | None) -> str | None:
    """All templates of a base's folder; None where none can be read. Read once per process."""
    if folder is None:
        return None
    texts = [_read(path) for path in sorted(folder.glob("chat_template*")) if path.is_file()]
    try:
        named = json.loads(_read(folder / "tokenizer_config.json") or "{}").get("chat_template")
    except (ValueError, AttributeError):
        named = None
    if isinstance(named, str):
        texts.append(named)
    elif isinstance(named, list):
        texts += [one.get("template") or "" for one in named if isinstance(one, dict)]
    return "\n".join(text for text in texts if text) or None


def renders_tools(template: str | None) -> bool:
    """Whether it shows the offered tools, the assistant's calls and their results; an unknown template is trusted to."""
    if template is None:
        return True
    return bool(re.search(r"\btools\b", template) and re.search(r"\btool_calls\b|['\"]tool['\"]", template))


# What a template writes before a call -> the token that the parser needs, if any -> vLLM's name for the parser.
PARSERS = (
    ("<function=", "<function=", ""),  # written as XML inside of <tool_call>, which hermes cannot read
    ("<tool_call>", None, "hermes"),
    ("<|python_tag|>", "<|python_tag|>", "llama3_json"),
)


@lru_cache(maxsize=64)
def tool_call_parser(folder: Path) -> str:
    """vLLM's parser for the calls of a model by its template; empty where the template tells of none that is sure to start."""
    template = template_text(folder) or ""
    if not renders_tools(template):
        return ""
    for marker, token, parser in PARSERS:
        if marker in template:
            known = token is None or json.dumps(token) in _read(folder / "tokenizer.json", 64 * LONGEST)
            return parser if known else ""
    return ""


def _read(path: Path, longest: int = LONGEST) -> str:
    try:
        if path.stat().st_size > longest:
            return ""
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
