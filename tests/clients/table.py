"""What the clients could do, as a table for the terminal and as docs/reference/clients.md."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs/reference/clients.md"
SHOWN = 300  # characters of what went wrong
ABILITIES = (
    "models", "chat", "stream", "schema", "tools: auto", "tools: required", "tools: named", "responses", "files", "fine-tuning",
    "errors", "generate",
)  # fmt: skip


@dataclass
class Tried:
    """One client. said: ability -> "ok" or what went wrong; an ability that is not there is not one of this client.
    left_out: why it was not tried."""

    name: str
    package: str
    version: str
    said: dict[str, str] = field(default_factory=dict)
    left_out: str | None = None

    @property
    def title(self) -> str:
        """Its name and version, and the package where that is called otherwise."""
        return (
            f"{self.name} {self.version}"
            if self.package == self.name
            else f"{self.name} ({self.package} {self.version})"
        )

    @property
    def failed(self) -> dict[str, str]:
        return {name: words for name, words in self.said.items() if words != "ok"}

    def cell(self, ability: str) -> str:
        if ability not in self.said:
            return "-"
        return "ok" if self.said[ability] == "ok" else "FAILED"


def _columns(tried: Sequence[Tried]) -> list[str]:
    known = [name for one in tried for name in one.said if name not in ABILITIES]
    return [*(name for name in ABILITIES if any(name in one.said for one in tried)), *dict.fromkeys(known)]


def _rows(tried: Sequence[Tried]) -> list[list[str]]:
    columns = _columns(tried)
    rows = [["client", *columns]]
    for one in tried:
        rest = ["left out"] * len(columns) if one.left_out else [one.cell(name) for name in columns]
        rows.append([one.title, *rest])
    return rows


def on_screen(tried: Sequence[Tried]) -> str:
    rows = _rows(tried)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for one in tried:
        if one.left_out:
            lines.append(f"{one.name}: left out, {one.left_out}")
        lines += [f"{one.name}: {ability}: {words}" for ability, words in one.failed.items()]
    return "\n".join(lines)


def document(tried: Sequence[Tried], model: str, today: date) -> str:
    head, *rows = _rows(tried)
    table = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    table += ["| " + " | ".join(row) + " |" for row in rows]
    failures = [
        f"- {one.name}: {one.left_out or ''}{'; '.join(f'{name}: {words[:SHOWN]}' for name, words in one.failed.items())}"
        for one in tried
        if one.left_out or one.failed
    ]
    return "\n".join(
        [
            "# Clients that were tried",
            "",
            "`make clients` installs each client in an environment of its own, at the versions of `tests/clients/requirements/` and",
            "`tests/clients/node/`, and runs its driver (`tests/clients/drive/`, `tests/clients/node/`) against a running METEOR. This page is",
            "what it wrote last.",
            "",
            f"Date: {today.isoformat()}. Student: {model} on the real engine. `-`: the client has no such function, or its driver does not use it.",
            "",
            *table,
            "",
            *(
                ["What failed or was left out:", "", *failures]
                if failures
                else ["Nothing failed, nothing was left out."]
            ),
            "",
            "What the words mean: *schema* is an answer that is held to a JSON schema, in each of the ways that the client has for it; *tools:",
            "auto* takes a call or a text; *required* and *named* must be calls whose arguments fit the function's schema, also in a stream where",
            "the client streams calls; *responses* is `/v1/responses` with text, stream, schema and a call and its result; *errors* are the",
            "client's own exception classes, with our code; *generate* makes a client from `openapi.json` without a warning.",
            "",
        ]
    )
