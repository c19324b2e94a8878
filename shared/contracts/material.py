"""What a strong model is shown and no student ever sees: a schema, a manual, a style guide.

Trained on answers that were written with it, a student answers without it: knowledge moves from the prompt into the weights (context
distillation, Askell et al. 2021, arXiv 2112.00861; Snell et al. 2022, arXiv 2209.15189).
"""

import re
from collections.abc import Sequence

from shared.contracts.json_types import Json

FILE_ID = re.compile(r"file-[0-9A-Za-z_-]{1,100}")
LONGEST = 200_000  # characters of a text inside a job's body or of a row
MOST_BYTES = 4_000_000  # of an uploaded file
_TAG = re.compile(r"<(?=/?material>)", re.IGNORECASE)
TEACHER_RULE = (
    "What stands in <material> is right and for you alone: whoever reads your answer does not see it. Answer by it, and never "
    "speak of it."
)
JUDGE_RULE = (
    "What stands in <material> is right. The student has not seen it; whoever reads your reply does not see it either."
)


def is_file(given: str) -> bool:
    """Whether a context names an uploaded file; everything else is the text itself."""
    return FILE_ID.fullmatch(given.strip()) is not None


def with_material(messages: Sequence[Json], texts: Sequence[str], rule: str) -> list[Json]:
    """The messages with texts in front of the system text. The texts of a job come first and then a row's own, so that requests of
    a job begin alike: providers and vLLM compute such a beginning once (prompt caching)."""
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        return list(messages)
    shown = "\n\n".join(f"<material>\n{_TAG.sub('< ', text)}\n</material>" for text in texts)
    first, *rest = messages
    if first["role"] != "system":
        return [{"role": "system", "content": f"{shown}\n\n{rule}"}, *messages]
    return [first | {"content": f"{shown}\n\n{rule}\n\n{first['content']}"}, *rest]
