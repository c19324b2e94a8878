"""How many tokens a text has for a student: counted by the tokenizer of its folder, without its weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared.contracts.errors import UserError


class TokenCounter(NamedTuple):
    """context: tokens of prompt and answer together that the model takes; None where its configuration does not say."""

    student: str
    folder: Path
    context: int | None

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Raises UserError where the folder's tokenizer cannot be read."""
        from tokenizers import Tokenizer  # here: the API starts without it

        try:
            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the library raises Exception itself
            raise UserError(f"the tokenizer of {self.student!r} cannot be read: {error}", param="student") from error
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def token_counter(student: str, folder: Path | None) -> TokenCounter:
    """Raises UserError for a student whose folder is not known or holds no tokenizer."""
    if folder is None or not (folder / "tokenizer.json").is_file():
        where = f"; {folder} has no tokenizer.json" if folder else ""
        raise UserError(
            f"the folder of the student {student!r} is not known here{where}. Prepare it (meteor models prepare), or leave student out",
            param="student",
            code="no_student",
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        context = (config.get("text_config") or config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        context = None
    return TokenCounter(student, folder, context if isinstance(context, int) else None)
