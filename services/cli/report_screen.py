"""The report of a job as a person reads it in a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.contracts.report import Report
from shared.reporting.sections import Section, scores, sections
from shared.reporting.tables import TextTable

INTERVAL = r"\[[^\]]*\]"


def show_report(console: Console, report: Report) -> None:
    """All sections. Intervals are dim; what limits the report is yellow."""
    for section in sections(report):
        _show(console, section)


def show_table(console: Console, report: Report) -> None:
    """The scores on the test split alone."""
    console.print(_grid(scores(report)))


def _show(console: Console, section: Section) -> None:
    console.print(f"\n[bold]{_plain(section.title)}[/bold]", highlight=False)
    if section.table:
        console.print(_grid(section.table))
    for line in section.lines:
        console.print(f"  {line.text}", markup=False, highlight=False, style="yellow" if line.warning else "")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _grid(table: TextTable) -> Table:
    grid = Table()
    for number, column in enumerate(table.head):
        grid.add_column(_plain(column), overflow="fold", justify="left" if number == 0 else "right")
    for row in table.rows:
        cells = [Text(cell) for cell in row]
        for cell in cells:
            cell.highlight_regex(INTERVAL, "dim")
        grid.add_row(*cells)
    return grid
