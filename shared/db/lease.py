"""Leases in the columns lease_owner, lease_expires and attempt: a row belongs to one owner until the lease expires.

Each claim raises the attempt number. Writes name their attempt, so a lost owner that wakes up changes nothing.
"""

from typing import Any

from sqlalchemy import ColumnElement, Table, and_, or_

from shared.db.engine import Values

FREE: Values = {"lease_owner": None, "lease_expires": None}


def claimed(table: Table, owner: Any, until: Any) -> Values:
    """The values that begin a new attempt. owner, until: values or bound parameters; until is in Unix seconds."""
    return {"lease_owner": owner, "lease_expires": until, "attempt": table.c.attempt + 1}


def held(table: Table, row_id: Any, attempt: Any) -> ColumnElement[bool]:
    """Whether this attempt is still the row's newest one."""
    return and_(table.c.id == row_id, table.c.attempt == attempt)


def expired(table: Table, now: float) -> ColumnElement[bool]:
    return table.c.lease_expires < now


def unowned(table: Table, now: float) -> ColumnElement[bool]:
    """Released by its owner, or expired."""
    return or_(table.c.lease_expires.is_(None), expired(table, now))
