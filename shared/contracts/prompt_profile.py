"""What a student's prompts need beyond its folder's own chat template: one frozen record that travels with the student.

A base that needs nothing has no profile, so its steps keep the hashes that they had before profiles existed.
"""

import re

from pydantic import BaseModel, ConfigDict


class PromptProfile(BaseModel):
    """template: the Jinja text that replaces the folder's own in trainer, engine and exports; None: the folder's own.
    turn_end: the token that ends the student's turn where it is not the tokenizer's end token.
    think: the marks around a thought; None: the student writes no thoughts.
    thought_open: the prompt ends inside a thought, on purpose; what is learned closes it first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str | None = None
    turn_end: str | None = None
    think: tuple[str, str] | None = None
    thought_open: bool = False

    @property
    def opening(self) -> str:
        """What stands before every learned answer."""
        return f"{self.think[1]}\n\n" if self.think and self.thought_open else ""

    def without_thoughts(self, text: str) -> tuple[str, bool]:
        """(the answer without its thoughts, whether the text ends inside a thought).

        A closing mark without an opening one ends a thought that the prompt began.
        """
        if self.think is None:
            return text, False
        opened, closed = self.think
        answer = re.sub(f"{re.escape(opened)}.*?{re.escape(closed)}", "", text, flags=re.DOTALL)
        _, mark, answer = answer.rpartition(closed)
        if self.thought_open and closed not in text:
            return "", True
        answer, unclosed, _ = answer.partition(opened)
        return answer.strip() if mark or unclosed or closed in text else text, bool(unclosed)


PLAIN = PromptProfile()
