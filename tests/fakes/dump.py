"""Posts.xml as a Stack Exchange dump has it, made of a few posts."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import quoteattr

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'


def question(number: int, accepted: int | None, tags: str = "nlp", score: int = 5, **more: str) -> dict[str, str]:
    """tags: separated by spaces."""
    post = {
        "Id": str(number),
        "PostTypeId": "1",
        "Score": str(score),
        "Title": f"Title {number}",
        "Body": f"<p>Question {number}?</p>",
        "Tags": "".join(f"<{tag}>" for tag in tags.split()),
        "OwnerUserId": "7",
        "ContentLicense": "CC BY-SA 4.0",
    }
    return post | ({"AcceptedAnswerId": str(accepted)} if accepted else {}) | more


def answer(number: int, parent: int, score: int = 3, **more: str) -> dict[str, str]:
    post = {"Id": str(number), "PostTypeId": "2", "ParentId": str(parent), "Score": str(score)}
    return (
        post | {"Body": f"<p>Answer {number}.</p>", "OwnerDisplayName": "Ann", "ContentLicense": "CC BY-SA 3.0"} | more
    )


def posts_xml(posts: Iterable[dict[str, str]]) -> bytes:
    rows = (
        "  <row " + " ".join(f"{name}={quoteattr(value)}" for name, value in post.items()) + " />" for post in posts
    )
    return (HEAD + "\n".join(rows) + "\n</posts>\n").encode()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
