"""Replies of a strong model that an import cannot use: counted, and a reason to stop when the first ones are all of that kind."""

from collections import Counter
from collections.abc import Sequence

from shared.contracts.coverage import Proposed
from shared.contracts.errors import FatalError
from shared.contracts.imports import NOTHING_TO_IMPORT, DocumentsOptions, GenerateOptions, Written

Reply = Written | Proposed
UNREAD = {  # why no question was read in a reply -> how it is counted
    "cut_off": "replies cut off at source.max_tokens",
    "empty": "empty replies",
    "unreadable": "replies that could not be read",
}
UNCHECKED = "questions whose check was answered with neither yes nor no"
REMEDIES = {
    UNREAD["cut_off"]: "raise source.max_tokens (a reasoning model also thinks within it)",
    UNREAD[
        "empty"
    ]: "raise source.max_tokens (a reasoning model also thinks within it), or name another source.provider",
    UNREAD["unreadable"]: "name another source.provider: this one does not write the list of questions it is asked for",
    UNCHECKED: "name another source.provider: this one does not answer yes or no to the check of a question",
}


class NothingToImport(FatalError):
    code = NOTHING_TO_IMPORT


def in_words(left_out: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted((+left_out).items())) or "nothing"


def failures(written: Sequence[Reply]) -> Counter[str]:
    """Replies without a question and checks without a verdict, by reason."""
    counts = Counter(UNREAD[item.why or "unreadable"] for item in written if item.unparsed)
    counts[UNCHECKED] += sum(item.unchecked for item in written if isinstance(item, Written))
    return +counts


def check_first(written: Sequence[Reply], source: DocumentsOptions | GenerateOptions) -> None:
    """Raises NothingToImport when no question comes of the first passages because of how the replies are."""
    if any(_brings(item) for item in written) or not written:
        return
    counts = failures(written)
    reason = counts.most_common(1)[0][0]
    asked = "passages" if isinstance(source, DocumentsOptions) else "requests"
    raise NothingToImport(
        f"no question came of the first {len(written)} {asked}: {in_words(counts)}. source.max_tokens is "
        f"{source.max_tokens}, source.provider is {source.provider!r}; {REMEDIES[reason]}",
        param="source.max_tokens" if "max_tokens" in REMEDIES[reason] else "source.provider",
    )


def _brings(item: Reply) -> bool:
    """Whether it brings something, or brings nothing for another reason than its form."""
    if isinstance(item, Written):
        return bool(item.questions) or not (item.unparsed or item.unchecked)
    return bool(item.items) or not item.unparsed
