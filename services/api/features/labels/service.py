"""Human preferences, checked row by row: all rows of a request are stored, or none."""

from itertools import islice

from services.api.context import ProjectContext
from services.api.paging import Paging, listed
from shared.contracts.data import LineError, checked
from shared.contracts.errors import UserError
from shared.contracts.labels import Label, LabelObject, LabelsAdded, LabelsRequest
from shared.contracts.views import Listed
from shared.jobs.records import LabelRecord

SHOWN = 10  # bad rows that one error names


def add(context: ProjectContext, request: LabelsRequest) -> LabelsAdded:
    """Raises UserError that names the bad rows; rows count from 1, `param` from 0 as in every other error."""
    rows = [checked(Label, number, row) for number, row in enumerate(request.labels, start=1)]
    bad = [row for row in rows if isinstance(row, LineError)]
    if bad:
        details = "; ".join(f"row {error.line}: {error.message[:200]}" for error in islice(bad, SHOWN))
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        place = f"labels.{bad[0].line - 1}"
        raise UserError(
            f"{len(bad)} of {len(rows)} rows are invalid, so none was stored: {details}{more}",
            param=f"{place}.{bad[0].param}" if bad[0].param else place,
            code="invalid_row",
        )
    labels = [row for row in rows if isinstance(row, Label)]
    added, total = context.stores.labels.add(context.project, labels)
    return LabelsAdded(added=added, known=len(labels) - added, total=total)


def page(context: ProjectContext, paging: Paging) -> Listed[LabelObject]:
    rows, more = context.stores.labels.page(context.project, *paging)
    return listed([_as_object(row) for row in rows], more)


def _as_object(label: LabelRecord) -> LabelObject:
    return LabelObject(
        id=label.id,
        created_at=int(label.created_at),
        question=label.question,
        first=label.first,
        second=label.second,
        preferred=label.preferred,
        reference=label.reference,
    )
