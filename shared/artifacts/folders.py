"""The hash of a folder: SHA-256 over lines of its files' relative names and their own hashes, in name order."""

import hashlib
from collections.abc import Collection
from pathlib import Path


def folder_lines(folder: Path, without: Collection[str] = ()) -> dict[str, str]:
    """SHA-256 of each file by its relative name, in name order. without: relative names to skip."""
    lines = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in without):
        with path.open("rb") as file:
            lines[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return lines


def as_text(lines: dict[str, str]) -> bytes:
    """What a folder's hash is made of."""
    return "".join(f"{name}\0{inner}\n" for name, inner in lines.items()).encode()


def as_lines(content: bytes) -> dict[str, str]:
    """The files that as_text lists. Raises ValueError for other content, and for a name that leads out of the folder."""
    lines = dict(line.split("\0", 1) for line in content.decode().split("\n") if line)
    if any(name.startswith("/") or ".." in name.split("/") for name in lines):
        raise ValueError("a file's name leads out of its folder")
    return lines


def hash_folder(folder: Path, without: Collection[str] = ()) -> str:
    """without: relative names to skip."""
    return hashlib.sha256(as_text(folder_lines(folder, without))).hexdigest()
