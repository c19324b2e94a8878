"""What the training and the validation file of a job have in common although no question and no group stands in both."""

from shared.artifacts.store import Artifacts
from shared.datasets.grouping import Grouping
from shared.datasets.likeness import Likeness
from shared.datasets.rows import References, StoredRows

MOST_COMPARED = 50_000  # rows of both files: about 2 s
REFUSED = {Likeness.GROUP, Likeness.QUESTION}  # with these in both files a job is refused (JobRows.in_both)


def shared_with_training(artifacts: Artifacts, training: References, validation: References) -> dict[str, int]:
    """How many validation rows share something with a training row, by what it is (Likeness): near twins, references, passages.
    Reads both files. Raises ArtifactMissing."""
    import numpy as np

    grouping, sides = Grouping(), bytearray()
    for side, references in enumerate((training, validation)):
        for row in StoredRows(artifacts, references):
            grouping.add(row)
            sides.append(side)
    counts = grouping.left(np.frombuffer(bytes(sides), dtype=np.int8), train=0)
    return {kind: count for kind, count in counts.items() if kind not in REFUSED}
