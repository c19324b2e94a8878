"""One page of the rows of a dataset or a job."""

from services.api.paging import Paging, unknown_cursor
from shared.contracts.data import Question, Split
from shared.datasets.rows import JobRows


def page_of_rows(rows: JobRows, paging: Paging, split: Split | None, noun: str) -> tuple[list[Question], bool]:
    """Rows of a split (None: of all) in their order, and whether there are more. Raises UserError for an `after` that is none of them.
    noun: for that message."""
    places, start = rows.places(split), 0
    if paging.after:
        last = rows.find(paging.after)
        if last is None:
            raise unknown_cursor(noun, paging.after)
        start = int((places <= last).sum())
    return list(rows.read(places[start : start + paging.limit])), len(places) > start + paging.limit
