"""The rationale of a streamed answer: sent as `reasoning_content` while it is written, and the answer as `content`.

Only for versions that were trained to write one: of other models it is unknown, until the marker appears, whether there is a rationale.
"""

from collections.abc import Iterator

from shared.contracts.answer_format import MARKER


class RationaleReader:
    """Parts the pieces of one text at its first marker. Pieces are held back only while they may be the beginning of the marker, or
    white space at an end."""

    def __init__(self) -> None:
        self._said = ""  # all of the text
        self._held = "\n"  # not told yet; the marker may open the text
        self._marked = False
        self._told = False  # something of the present part

    def read(self, piece: str, ended: bool = False) -> Iterator[tuple[str, str]]:
        """(field, text) for what can be told now. ended: no more pieces come; a text without a marker is an answer, and told as one."""
        self._said += piece
        self._held += piece
        if not self._marked and MARKER in self._held:
            rationale, _, self._held = self._held.partition(MARKER)
            yield from self._tell("reasoning_content", rationale.rstrip())
            self._marked, self._told = True, False
        if self._marked:
            yield from self._tell("content", self._taken(0))
        elif ended:
            if self._said.strip():
                yield "content", self._said.strip()
        else:
            yield from self._tell("reasoning_content", self._taken(len(MARKER) - 1))

    def _taken(self, kept: int) -> str:
        """What of the held text can be told: all but its last so many characters and the white space before them."""
        ready = self._held[: max(0, len(self._held) - kept)].rstrip()
        self._held = self._held[len(ready) :]
        return ready

    def _tell(self, field: str, text: str) -> Iterator[tuple[str, str]]:
        text = text if self._told else text.lstrip()
        if text:
            self._told = True
            yield field, text
