"""What the ledger's stores return: one type per table."""

from sqlalchemy import Row

CallRecord = Row
BatchRecord = Row
BatchRequestRecord = Row
