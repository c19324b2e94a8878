"""Columns beside the rows of a dataset, so that a page, a count or a check reads no more than it needs.

One file: a header of HEADER bytes, JSON with the number of rows, then the columns one after the other, each as numpy has it in
memory (little-endian).
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

HEADER = 64
# offset: where a row begins among the bytes of the rows, and their end. id: sorted hashes of the rows' ids; place: which row each of
# them has. group, question: what twins have in common (shared.datasets.likeness). crc: of a row's bytes. *_bytes: UTF-8 lengths of what
# the student is asked, and of the reference. split: its number. flags: HAS_*.
TYPES = {
    "offset": "<u8", "id": "<u8", "group": "<u8", "question": "<u8", "place": "<u4", "crc": "<u4", "question_bytes": "<u4",
    "reference_bytes": "<u4", "split": "<u1", "flags": "<u1",
}  # fmt: skip
ADDED = {"teacher_bytes": "<u4"}  # in files of FORM 2: of what strong models alone are shown; all 0 in those of FORM 1
ONE_MORE = "offset"
HAS_REFERENCE, HAS_REJECTED, HAS_MESSAGES, HAS_ITEM = 1, 2, 4, 8
FORM = "meteor rows "


class DamagedColumns(ValueError):
    """The file is no file of columns, or is cut off."""


def written(columns: Mapping[str, "np.ndarray"]) -> Iterator[bytes]:
    """The parts of the file. columns: all of TYPES and ADDED, of equal length; `offset` has one more."""
    added = {name: code for name, code in ADDED.items() if columns[name].any()}
    header = json.dumps({"columns": FORM + ("2" if added else "1"), "rows": len(columns["split"])})
    yield header.encode().ljust(HEADER)
    for name, code in (TYPES | added).items():
        yield columns[name].astype(code).tobytes()


class Columns:
    """An opened file; columns are mapped into memory as they are asked for."""

    def __init__(self, path: Path):
        """Raises DamagedColumns."""
        import numpy as np

        self._file = path.open("rb")  # stays open: a copy of what lies on object storage may be evicted by its name
        try:
            header = json.loads(self._file.read(HEADER))
            self.rows: int = header["rows"]
            types = TYPES | (ADDED if header["columns"] == FORM + "2" else {})
        except (ValueError, LookupError, TypeError) as error:
            self._file.close()
            raise DamagedColumns(f"{path.name} has no header") from error
        self._starts: dict[str, int] = {}
        end = HEADER
        for name, code in types.items():
            self._starts[name] = end
            end += np.dtype(code).itemsize * (self.rows + (name == ONE_MORE))
        size = os.fstat(self._file.fileno()).st_size
        if size != end:
            self._file.close()
            raise DamagedColumns(f"{path.name} has {size} bytes, not {end}")

    def __getitem__(self, name: str) -> "np.ndarray":
        import numpy as np

        count = self.rows + (name == ONE_MORE)
        code = (TYPES | ADDED)[name]
        if not count or name not in self._starts:
            return np.zeros(count, dtype=code)
        return np.memmap(self._file, dtype=code, mode="r", offset=self._starts[name], shape=(count,))
