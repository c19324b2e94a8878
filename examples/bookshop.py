"""Makes the bookshop's SQLite file, which the queries of bookshop.jsonl are run on:

python examples/bookshop.py bookshop.sqlite
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

SCRIPT = Path(__file__).with_name("bookshop.sql")


def build(target: Path) -> None:
    """Writes the database to target. Raises FileExistsError where there is a file already, ValueError for a row that refers
    to a row that is not there."""
    target.touch(exist_ok=False)
    with closing(sqlite3.connect(target)) as database:
        database.executescript(SCRIPT.read_text(encoding="utf-8"))
        if broken := database.execute("PRAGMA foreign_key_check").fetchall():
            raise ValueError(f"{SCRIPT.name}: rows without the row that they refer to: {broken[:5]}")
        database.commit()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    build(Path(sys.argv[1]))
