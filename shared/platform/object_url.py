"""The URL of an object storage, as a setting: it names a place and holds no credentials."""

import re
from urllib.parse import urlsplit

SCHEMES = ("s3", "gs", "az", "file")
CREDENTIALS = re.compile(r"(AWS|GOOGLE|AZURE)_.*(KEY|TOKEN|SECRET|CREDENTIALS|ACCOUNT|SAS|PASSWORD)", re.IGNORECASE)


def checked_url(url: str) -> str:
    """The URL without its last slash. Raises ValueError for one that cannot be used, or that holds credentials."""
    try:
        parts = urlsplit(url)
        secret = bool(parts.username or parts.password)
    except ValueError as error:
        raise ValueError("it is no URL") from error
    if secret or parts.query or parts.fragment:
        raise ValueError(
            "it must hold no credentials and no query: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their like"
        )
    if parts.scheme not in SCHEMES or not (parts.path.strip("/") if parts.scheme == "file" else parts.netloc):
        raise ValueError(f"write s3://bucket/folder; the schemes are {', '.join(SCHEMES)}")
    return url.rstrip("/")


def opens_objects(name: str) -> bool:
    """Whether an environment variable holds credentials of an object storage: what runs foreign code does not get it."""
    return CREDENTIALS.match(name) is not None
