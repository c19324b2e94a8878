"""Objects by key below one URL: s3://, gs://, az://, or file:// for a folder that is mounted everywhere.

The store is opened at its first use in a process, never in a parent that forks afterwards: the library's threads do not live on in a
fork. Credentials come from the environment that the provider's own tools read (AWS_*, GOOGLE_*, AZURE_*) or from the machine's role.
"""

import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.contracts.errors import FatalError, TransientError
from shared.platform.object_url import checked_url

if TYPE_CHECKING:  # an extra, which most installations do not have
    from obstore.store import ObjectStore

CONNECT, WHOLE, RETRIES, RETRY_FOR = "5s", "300s", 4, timedelta(seconds=60)
CODE = re.compile(r"<Code>(\w+)</Code>")
FIXES = {
    "NoSuchBucket": "create the bucket, or name another one in METEOR_ARTIFACTS_URL",
    "RequestTimeTooSkewed": "set this machine's clock by NTP (`timedatectl set-ntp true`)",
    "SignatureDoesNotMatch": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of one and the same key",
    "InvalidAccessKeyId": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a key that exists",
    "AccessDenied": "let the credentials read, write, list and delete below METEOR_ARTIFACTS_URL",
}
UNREACHABLE = "check METEOR_ARTIFACTS_URL, AWS_ENDPOINT_URL and the network"


class ObjectsUnavailable(TransientError):
    """fix: what an operator can do about it."""

    code = "object_store_unavailable"

    def __init__(self, message: str, fix: str):
        super().__init__(f"{message}; {fix}")
        self.reason, self.fix = message, fix


class StoredObject(NamedTuple):
    key: str
    size: int
    modified: datetime


class Objects:
    """Every call is one object's, atomic, and tried again while the store does not answer. Raises ObjectsUnavailable."""

    def __init__(self, url: str):
        self.url = checked_url(url)

    def put(self, key: str, content: bytes | memoryview) -> None:
        """Write an object, whatever it held."""
        self._put(key, content, "overwrite")

    def create(self, key: str, content: bytes | memoryview) -> bool:
        """Write an object unless it is there; returns whether it was not."""
        return self._put(key, content, "create")

    def _put(self, key: str, content: bytes | memoryview, mode: Any) -> bool:
        try:
            self._call("put", key, content, mode=mode, use_multipart=False)
        except FileNotFoundError as error:
            raise self._unavailable(error) from None
        except Exception as error:
            if type(error).__name__ == "AlreadyExistsError":  # of a library that is loaded when it is needed
                return False
            raise
        return True

    def get(self, key: str) -> bytes | None:
        """None where there is no such object."""
        try:
            answer = self._call("get", key)
        except FileNotFoundError as error:
            _raise_without_bucket(error)
            return None
        with self._understood():
            return bytes(answer.bytes())

    def look(self, key: str) -> StoredObject | None:
        try:
            return _as_object(self._call("head", key))
        except FileNotFoundError:
            return None

    def copy(self, key: str, to: str) -> bool:
        """False where there is no such object."""
        try:
            self._call("copy", key, to)
        except FileNotFoundError:
            return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """What is not there is deleted already."""
        for key in keys:
            try:
                self._call("delete", key)
            except FileNotFoundError:
                continue

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Those whose key begins with the folder's name, in no order."""
        import obstore

        with self._understood():
            for page in obstore.list(_store(self.url, os.getpid()), f"{prefix.strip('/')}/"):
                yield from map(_as_object, page)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        """Raises FileNotFoundError and AlreadyExistsError as they come."""
        store = _store(self.url, os.getpid())
        import obstore

        with self._understood():
            return getattr(obstore, name)(store, *args, **options)

    @contextmanager
    def _understood(self) -> Generator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            yield
        except (FileNotFoundError, AlreadyExistsError):
            raise
        except (BaseError, ValueError, OSError) as error:
            raise self._unavailable(error) from None  # the library's own text quotes whole answers

    def _unavailable(self, error: Exception) -> ObjectsUnavailable:
        words = str(error)
        code = next(iter(CODE.findall(words)), "")
        if not code and type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
            code = "AccessDenied"
        what = code or words.partition("\n")[0].partition("<?xml")[0].strip()[:300]
        return ObjectsUnavailable(f"{self.url}: {what}", FIXES.get(code, UNREACHABLE))


def _raise_without_bucket(error: FileNotFoundError) -> None:
    """A missing bucket answers as a missing object does; that must not look like a lost artifact."""
    if "NoSuchBucket" in str(error):
        raise ObjectsUnavailable("there is no such bucket", FIXES["NoSuchBucket"]) from None


def _as_object(meta: Any) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"])


@cache
def _store(url: str, pid: int) -> "ObjectStore":
    """pid: a store of the parent's must not be used in a fork."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        message = "METEOR_ARTIFACTS_URL needs the package obstore: pip install -r requirements/s3.lock"
        raise FatalError(message, code="object_store_missing") from error
    if url.startswith("file:"):
        return from_url(url, mkdir=True)
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        del os.environ[name]  # Compose gives what is not set as an empty text, which would hide the machine's role
    plain = any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    options: Any = {"connect_timeout": CONNECT, "timeout": WHOLE} | ({"allow_http": True} if plain else {})
    return from_url(url, client_options=options, retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_FOR})
