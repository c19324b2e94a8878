"""`meteor system`: the processes, the queues, and how calls to strong models end."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.cli.client import client
from services.cli.options import DEFAULT_DATA, Data, Json
from services.cli.output import minute
from shared.contracts.system import SystemObject
from shared.platform.terminal import emit


def system(as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Which processes run, what waits in the queues, and how the last hour's calls to strong models ended; for the operator."""
    with client(data) as api:
        shown = api.ask(SystemObject, "GET", "/v1/system")
    emit(shown, as_json, Group(_processes(shown), _queues(shown), _calls(shown)))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _processes(shown: SystemObject) -> Table:
    table = _table("process", "queue", "at once", "state", "seen")
    for one in shown.processes:
        table.add_row(Text(one.id), one.queue or "-", str(one.slots), one.state, minute(one.seen_at))
    return table


def _queues(shown: SystemObject) -> Table:
    table = _table("queue", "at once", "steps")
    for queue in shown.queues:
        table.add_row(queue.id, str(queue.slots), _counts(queue.steps))
    return table


def _calls(shown: SystemObject) -> Table:
    table = _table("provider", "calls of the last hour", "newest error")
    for one in shown.calls:
        table.add_row(Text(one.id), _counts(one.outcomes), Text(one.error or "-"))
    return table


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "-"
