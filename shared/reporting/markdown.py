"""A report as Markdown: for files, and inside the model card."""

from shared.contracts.report import Report
from shared.reporting.sections import sections
from shared.reporting.tables import TextTable


def as_markdown(report: Report, level: int = 2) -> str:
    """level: of the sections' headings."""
    blocks: list[str] = []
    for section in sections(report):
        blocks.append(f"{'#' * level} {_escaped(section.title)}")
        if section.table:
            blocks.append(markdown_table(section.table))
        if section.lines:
            blocks.append("\n".join(f"- {_escaped(line.text)}" for line in section.lines))
    return "\n\n".join(blocks)


def markdown_table(table: TextTable) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join("| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """On one line, and no markup of HTML: a domain's name is the user's text."""
    return " ".join(text.split()).replace("<", "&lt;")
