"""Human preferences, checked row by row: all rows of a request are taken, or none."""

from itertools import islice

from services.api.context import ApiContext
from shared.contracts.data import LineError, checked
from shared.contracts.errors import UserError
from shared.contracts.labels import Label, LabelObject, LabelsAdded, LabelsRequest
from shared.jobs.records import LabelRecord

SHOWN = 10  # bad rows that one error names


def add(context: ApiContext, project: str, request: LabelsRequest) -> LabelsAdded:
    """Raises UserError that names the bad rows; rows count from 1, `param` from 0 as in every other error."""
    found = [checked(Label, number, row) for number, row in enumerate(request.labels, start=1)]
    bad = [row for row in found if isinstance(row, LineError)]
    if bad:
        rows = "; ".join(f"row {error.line}: {error.message[:200]}" for error in islice(bad, SHOWN))
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        place = f"labels.{bad[0].line - 1}"
        raise UserError(
            f"{len(bad)} of {len(found)} rows are refused, so none was taken: {rows}{more}",
            param=f"{place}.{bad[0].param}" if bad[0].param else place,
            code="invalid_row",
        )
    good = [row for row in found if isinstance(row, Label)]
    added, total = context.stores.labels.add(project, good)
    return LabelsAdded(added=added, known=len(good) - added, total=total)


def page(context: ApiContext, project: str, after: str | None, limit: int) -> tuple[list[LabelObject], bool]:
    rows, more = context.stores.labels.page(project, after, limit)
    return [_as_object(row) for row in rows], more


def delete(context: ApiContext, project: str, label_id: str) -> None:
    """Raises NotFound."""
    context.stores.labels.delete(project, label_id)


def _as_object(row: LabelRecord) -> LabelObject:
    return LabelObject(
        id=row.id,
        created_at=int(row.created_at),
        question=row.question,
        first=row.first,
        second=row.second,
        preferred=row.preferred,
        reference=row.reference,
    )
