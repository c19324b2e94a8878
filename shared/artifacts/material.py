"""The texts that strong models are shown, as artifacts: steps name them by their content hash."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.artifacts.store import Artifacts
from shared.contracts.material import MOST_BYTES, is_file


class Material(NamedTuple):
    """digests: artifacts of the job's texts, in order. bytes: of all of them, in UTF-8."""

    digests: tuple[str, ...] = ()
    bytes: int = 0


NO_MATERIAL = Material()


def text_of(path: Path) -> str:
    """An uploaded file as text. Raises ValueError, with what is wrong, for one that is too large, no UTF-8 text, or blank."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has {size} bytes, and {MOST_BYTES} are read at most")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text (byte {error.start})") from None
    if "\x00" in text:
        raise ValueError("it is no text: it holds a zero byte")
    if not text.strip():
        raise ValueError("it holds no text")
    return text


def contents_of(contexts: Sequence[str], path_of: Callable[[str], Path]) -> list[bytes]:
    """The bytes of texts and files, as a job names them: of a file its own, so that it and its artifact have one hash. path_of: raises
    NotFound. Raises ValueError for a file that is no text."""
    contents = []
    for given in contexts:
        if is_file(given):
            path = path_of(given.strip())
            text_of(path)
            contents.append(path.read_bytes())
        else:
            contents.append(given.encode())
    return contents


def stored(artifacts: Artifacts, contents: Sequence[bytes]) -> Material:
    """Raises DiskLow."""
    return Material(tuple(artifacts.put(content) for content in contents), sum(map(len, contents)))


def read(artifacts: Artifacts, digests: Sequence[str]) -> list[str]:
    """Raises ArtifactMissing."""
    return [artifacts.file(digest).read_bytes().decode("utf-8-sig") for digest in digests]
